"""Honours what hosts ask for: the pace of requests and the uses they allow."""
