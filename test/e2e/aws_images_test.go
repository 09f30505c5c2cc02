package e2e

import (
	"os/exec"
	"testing"

	"github.com/sebs-suite/sebs/test/awsstand"
)

// The images of runtimes are those that docker sandboxes of the tests run in.
const (
	pythonImage = "sebs/run.local.python.3.11"
	nodeImage   = "sebs/run.local.nodejs.18"
)

// imageBases names base images. Node.js has none: its base image is built and lies in the deployment's repository.
const imageBases = `builder:
  base_images:
    aws.python.3.11: docker-daemon:` + pythonImage + `
    aws.cpp: scratch
`

// nodeRuntime is the runtime of AWS that the image with Node.js, which is older, goes for.
const nodeRuntime = "20"

var imageCases = []awsCase{
	{name: "python", benchmark: "110.dynamic-html", language: "python", version: func(*testing.T) string { return "3.11" }},
	{name: "nodejs", benchmark: "110.dynamic-html", language: "nodejs", version: func(*testing.T) string { return nodeRuntime }, needs: []string{"node", "npm"}},
	{name: "cpp", benchmark: "010.sleep", language: "cpp", needs: []string{"cmake", "g++"}},
}

func TestImagesOnAWS(t *testing.T) {
	for _, image := range []string{pythonImage, nodeImage} {
		if err := exec.CommandContext(t.Context(), "docker", "image", "inspect", image).Run(); err != nil {
			t.Skipf("needs a Docker Engine with the image %s: %v", image, err)
		}
	}
	c := startCloud(t, awsstand.Options{Registry: true}, imageBases)
	c.run(t, "build", "docker", "build", "--deployment", "aws", "--language", "nodejs", "--language-version", nodeRuntime,
		"--builder-image", "docker-daemon:"+nodeImage)
	ids := make(chan string, len(imageCases))
	t.Run("runs", func(t *testing.T) {
		for _, test := range imageCases {
			test.args = []string{"--container-deployment"}
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				ids <- c.fromSourceToMetrics(t, test).Config.Deployment.Resources.ID
			})
		}
	})
	close(ids)
	t.Run("secrets", c.noSecretsAreLeft)
	t.Run("cleanup", func(t *testing.T) { c.cleanupWithoutState(t, <-ids, "function", "repository", "role", "log") })
}
