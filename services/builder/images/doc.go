// Package images makes container images of functions.
//
// An image is a base image with layers on top: the dependencies and the sources of a code package, in /var/task as on AWS
// Lambda, and below them, where the base image brings no Lambda runtime, the suite's own. Nothing is run for that, so it
// needs neither Docker nor emulation, works for any architecture, and equal inputs give an image of equal digest.
package images
