package process

import "github.com/sebs-suite/sebs/internal/errs"

var errImage = errs.Unimplemented("IMAGE_NEEDS_DOCKER",
	"platform local runs container images only in docker sandboxes; start the Docker Engine and use --sandbox docker, or deploy a code package")
