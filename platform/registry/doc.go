// Package registry speaks to registries of container images by the OCI distribution protocol: it finds, reads and pushes
// images, and logs in with the suite's credentials. Package ecr beside it does what only Amazon's registry asks for.
//
// Plain HTTP is spoken with this machine only. Secrets reach no error text: what a registry answers is told by status, code
// and message, and addresses without their queries.
package registry
