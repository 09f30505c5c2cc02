package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sebs-suite/sebs/internal/secret"
)

const text = "hunter2-very-secret"

type holder struct {
	Name     string        `json:"name" yaml:"name"`
	Password secret.String `json:"password" yaml:"password"`
}

func TestNothingPrintsTheText(t *testing.T) {
	t.Parallel()
	s := secret.New(text)
	h := holder{Name: "n", Password: s}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s, "h", h)
	hidden := struct{ inner secret.String }{s}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if got := fmt.Sprintf(verb, hidden) + fmt.Sprintf(verb, map[string]any{"k": &hidden}); strings.Contains(got, text) {
			t.Errorf("%s prints the secret of an unexported field: %s", verb, got)
		}
	}
	printed := map[string]string{"json": string(asJSON), "yaml": string(asYAML), "slog": log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed[verb] = fmt.Sprintf(verb, s) + fmt.Sprintf(verb, h) + fmt.Sprintf(verb, &h)
	}
	for how, got := range printed {
		if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
			t.Errorf("%s prints the secret: %s", how, got)
		}
		if !strings.Contains(got, secret.Redacted) {
			t.Errorf("%s does not say %s: %s", how, secret.Redacted, got)
		}
	}
}

func TestReadAndReveal(t *testing.T) {
	t.Parallel()
	var fromYAML, fromJSON holder
	if err := yaml.Unmarshal([]byte("name: a\npassword: "+text), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"password":"`+text+`"}`), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if fromYAML.Password.Reveal() != text || !fromYAML.Password.Equal(fromJSON.Password) {
		t.Errorf("secrets read from YAML and JSON differ from the text")
	}
	if fromYAML.Password.Equal(secret.New("other")) {
		t.Error("different secrets compare equal")
	}
	if !(secret.String{}).Empty() || secret.New("").String() != "" {
		t.Error("the zero value is not an empty secret")
	}
}
