// Package awsstand stands in for AWS in tests.
//
// A reverse proxy takes the requests of the SDKs. moto answers for the control plane; the proxy answers itself what moto
// does not do as AWS does it, and refuses what AWS refuses. Functions are executed: an invocation runs the very artefact
// that was uploaded on the suite's own host of functions, which speaks Lambda's Runtime API.
package awsstand
