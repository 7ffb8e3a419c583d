"""The Model Context Protocol's door: tools, resources and a prompt, by `kb mcp` on stdio and at `/mcp` over HTTP."""
