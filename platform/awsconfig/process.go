package awsconfig

import (
	"cmp"
	"os"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/ratelimit"
)

// ForProcess returns an opener with the section `aws` of a process's configuration. Requests wait for tokens that all
// processes of the suite share.
func ForProcess(p *app.Process) (*Opener, error) {
	var settings Settings
	if err := p.Section(Section, &settings); err != nil {
		return nil, err
	}
	rates := settings.rates(cmp.Or(settings.Endpoint, os.Getenv("AWS_ENDPOINT_URL")))
	return NewOpener(settings, p.Credentials, ratelimit.New(p.Cache, Platform, rates, p.Log)), nil
}
