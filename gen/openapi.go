// Package gen holds the code and documents generated from the protos; only this file is written by hand.
package gen

import "embed"

// OpenAPIFile is the name of the OpenAPI document in OpenAPI.
const OpenAPIFile = "openapi/sebs.swagger.json"

// OpenAPI holds the description of the REST interface.
//
//go:embed openapi/sebs.swagger.json
var OpenAPI embed.FS
