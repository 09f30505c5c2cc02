package awsconfig

import "github.com/sebs-suite/sebs/internal/app"

// ForProcess returns an opener with the section `aws` of a process's configuration.
func ForProcess(p *app.Process) (*Opener, error) {
	var settings Settings
	if err := p.Section(Section, &settings); err != nil {
		return nil, err
	}
	return NewOpener(settings, p.Credentials, nil), nil
}
