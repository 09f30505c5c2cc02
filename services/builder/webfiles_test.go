package builder

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
)

func TestUploaderFetchesFromTheSuite(t *testing.T) {
	t.Parallel()
	needsPython(t)
	b := newBench(t, nil)
	for platform, served := range map[string]bool{"local": true, "aws": false} {
		op, err := b.client.PrepareInput(t.Context(), &builderv1.PrepareInputRequest{
			Parent: "platforms/" + platform + "/deployments/test", Source: &builderv1.BenchmarkSource{Benchmark: "120.uploader"}, Size: "test",
		})
		input := result(t, op, err, &builderv1.BenchmarkInput{})
		var payload struct{ Object struct{ URL string } }
		if err := json.Unmarshal([]byte(input.GetPayloadJson()), &payload); err != nil {
			t.Fatal(err)
		}
		if got := strings.HasPrefix(payload.Object.URL, "http://127.0.0.1:"); got != served {
			t.Errorf("%s: address %s; served by the suite: %t, want %t", platform, payload.Object.URL, got, served)
		}
		if !served {
			continue
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, payload.Object.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := httpClient().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(answer.Body)
		if err != nil || len(content) != 230_000 {
			t.Errorf("%s gives %d bytes, %v", payload.Object.URL, len(content), err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWebFilesHost(t *testing.T) {
	t.Parallel()
	docker := localv1.SandboxKind_SANDBOX_KIND_DOCKER
	for name, test := range map[string]struct {
		host              *localv1.Host
		listen, advertise string
	}{
		"no docker":               {&localv1.Host{}, "127.0.0.1", "127.0.0.1"},
		"a bridge":                {&localv1.Host{DockerStoreHost: "172.17.0.1"}, "172.17.0.1", "172.17.0.1"},
		"a name":                  {&localv1.Host{DockerStoreHost: "host.docker.internal", DefaultSandboxKind: docker}, "127.0.0.1", "host.docker.internal"},
		"a name, docker not used": {&localv1.Host{DockerStoreHost: "host.docker.internal"}, "127.0.0.1", "127.0.0.1"},
	} {
		if listen, advertise := webFilesHost(test.host); listen != test.listen || advertise != test.advertise {
			t.Errorf("%s: %s, %s; want %s, %s", name, listen, advertise, test.listen, test.advertise)
		}
	}
}
