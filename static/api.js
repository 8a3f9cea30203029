// Shows the description of the API with Redoc. A file of its own, since the page allows no script within it.
const reference = document.getElementById("reference");
const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
const options = {
  expandResponses: "200",
  hideDownloadButton: true,
  hideSchemaPattern: true, // the sentence beside it says the same
  jsonSampleExpandLevel: 3,
  pathInMiddlePanel: true,
  scrollYOffset: "header.top",
  theme: {
    colors: { primary: { main: "#2f54d1" } },
    sidebar: { backgroundColor: "#f6f7f9", width: "270px" },
    rightPanel: { backgroundColor: "#1a2028" },
    typography: { fontFamily: font, headings: { fontFamily: font, fontWeight: "600" }, links: { color: "#2f54d1" } },
  },
};
Redoc.init(reference.dataset.description, options, reference);
