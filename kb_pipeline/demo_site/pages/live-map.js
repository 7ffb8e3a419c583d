const stations = [
  ["Tista at Halden", "level 1.28 m, rising"],
  ["Idd pier", "wind 7.4 m/s from the south-west"],
  ["Fredriksten hill", "4.6 °C, dry since yesterday"],
];
const root = document.getElementById("root");
const heading = document.createElement("h1");
heading.textContent = "Live map of public stations";
const list = document.createElement("ul");
for (const [place, value] of stations) {
  const item = document.createElement("li");
  item.textContent = `${place}: ${value}`;
  list.append(item);
}
root.append(heading, list);
