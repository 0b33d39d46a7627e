/* Swagger UI over this server's own description of its routes. */
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null, // the default asks a server of Swagger's
  presets: [SwaggerUIBundle.presets.apis],
});
