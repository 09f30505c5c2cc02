package cli

import (
	"fmt"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/internal/secret"
)

// inlineCredential is a credential that stands in a configuration file, as SeBS has it. Only a suite that the command
// itself starts gets it, in memory: it is never sent, and never stands in arguments, on disk or in logs.
type inlineCredential struct {
	// platform is the one that the credential is for; `registry` for a registry of container images.
	platform string
	values   map[string]secret.String
}

// inlineCredentials returns what the configuration file holds.
func inlineCredentials(config *sebsformat.UserConfig, getenv func(string) string) []inlineCredential {
	if config.AWS == nil {
		return nil
	}
	var found []inlineCredential
	if aws := config.AWS; !aws.AccessKey.Empty() {
		token := aws.SessionToken
		// The token of the environment belongs to the key of the environment.
		if key := getenv("AWS_ACCESS_KEY_ID"); token.Empty() && (key == "" || key == aws.AccessKey.Reveal()) {
			token = secret.New(getenv("AWS_SESSION_TOKEN"))
		}
		found = append(found, inlineCredential{platform: "aws", values: map[string]secret.String{
			"access_key": aws.AccessKey, "secret_key": aws.SecretKey, "session_token": token,
		}})
	}
	if docker := config.AWS.Docker; docker != nil && !docker.Password.Empty() {
		found = append(found, inlineCredential{platform: "registry", values: map[string]secret.String{
			"registry": secret.New(docker.Registry), "username": secret.New(docker.Username), "password": docker.Password,
		}})
	}
	return found
}

// settings are the settings of a suite's configuration that hold the credentials.
func (o connectOptions) credentialSettings() []string {
	var settings []string
	for _, inline := range o.credentials {
		for _, key := range sortedKeys(inline.values) {
			settings = append(settings, "credentials."+inline.platform+"."+credentials.Default+"."+key+"="+inline.values[key].Reveal())
		}
	}
	return settings
}

// refuseCredentials refuses to work with a suite that runs already when the configuration file holds a credential: the
// suite works with a credential of its own, which may belong to another account, and the file's is not sent to it.
func refuseCredentials(options connectOptions, suite string) error {
	for _, inline := range options.credentials {
		return exitcode.With(exitcode.Precondition, errs.FailedPrecondition(credentials.ReasonNotOnService,
			"the configuration holds a credential of %s, which only a suite that this command starts would get, and not %s; "+
				"remove it from the configuration and give that suite the credential (credentials.%s.%s of its configuration, or %s), or use another --state-dir",
			inline.platform, suite, inline.platform, credentials.Default, credentials.DirVariable))
	}
	return nil
}

// readInline adds the credentials of the configuration file to the options.
func (f *commonFlags) readInline(options *connectOptions) error {
	config, err := f.readConfig(nil)
	if err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	options.credentials = inlineCredentials(config, f.getenv)
	return nil
}
