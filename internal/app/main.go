package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/sebs-suite/sebs/internal/version"
)

// Exit codes of [Main].
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	// exitSignal is that of a process that a second signal ended at once.
	exitSignal = 130
)

// Main runs services as a program: it reads flags and configuration, serves until SIGINT or SIGTERM, ends in order, and
// exits. A second signal exits at once.
func Main(name string, setups ...Setup) {
	os.Exit(run(name, os.Args[1:], os.Environ(), os.Stdout, os.Stderr, setups))
}

func run(name string, args, environ []string, out, problems io.Writer, setups []Setup) int {
	source, rest, code := parse(name, args, environ, out, problems)
	if source == nil {
		return code
	}
	if len(rest) > 0 && rest[0] == "token" {
		return tokenCommand(name, rest, source, out, problems)
	}
	if len(rest) > 0 {
		return configCommand(name, rest, source, out, problems)
	}
	ctx, stop := signalled(context.Background())
	defer stop()
	p, err := New(ctx, Options{Name: name, Setups: setups, Source: source})
	if err == nil {
		err = p.Run(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return exitFailed
	}
	return exitOK
}

// shortcut is a flag for a key of the configuration.
type shortcut struct{ flag, path, help string }

func shortcuts() []shortcut {
	return []shortcut{
		{"listen", "grpc.listen", "host:port to serve gRPC on; port 0 takes a free one"},
		{"http-listen", "http.listen", "host:port to serve metrics, health and raw bodies on"},
		{"state-dir", "state_dir", "directory that only this process uses"},
		{"etcd", "etcd.endpoints", "URLs of etcd, between commas"},
		{"nats", "nats.urls", "addresses of NATS, between commas"},
		{"log-level", "log.level", "debug, info, warn or error"},
		{"log-format", "log.format", "text or json"},
	}
}

// parse reads the command line. Without a source the program ends with the code.
func parse(name string, args, environ []string, out, problems io.Writer) (*Source, []string, int) {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(problems)
	flags.SortFlags = false
	// What follows a command are its own flags.
	flags.SetInterspersed(false)
	file := flags.String("config", os.Getenv("SEBS_CONFIG"), "configuration file (YAML, version: 1)")
	sets := flags.StringArray("set", nil, "set one key, such as --set nats.replicas=3; may be repeated")
	showVersion := flags.Bool("version", false, "print the version and exit")
	values := make(map[string]*string)
	for _, s := range shortcuts() {
		values[s.path] = flags.String(s.flag, "", s.help+" ("+s.path+")")
	}
	flags.Usage = func() {
		_, _ = fmt.Fprintf(out, "Usage: %s [flags] [config check|default|dump | token create [--role R] [--description D] [--ttl T]]\n\n%s", name, flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, nil, exitOK
		}
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return nil, nil, exitUsage
	}
	if *showVersion {
		_, _ = fmt.Fprintln(out, name, version.Get())
		return nil, nil, exitOK
	}
	all := *sets
	for _, s := range shortcuts() {
		if flags.Changed(s.flag) {
			all = append(all, s.path+"="+*values[s.path])
		}
	}
	source, err := LoadSource(*file, environ, all)
	if err != nil {
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return nil, nil, exitUsage
	}
	return source, flags.Args(), exitOK
}

// configCommand answers "config check", "config default" and "config dump".
func configCommand(name string, rest []string, source *Source, out, problems io.Writer) int {
	if len(rest) != 2 || rest[0] != "config" {
		_, _ = fmt.Fprintf(problems, "%s: unknown command %q; use config check, config default, config dump or token create\n", name, strings.Join(rest, " "))
		return exitUsage
	}
	cfg := DefaultConfig(name)
	switch rest[1] {
	case "default":
	case "check", "dump":
		err := errors.Join(source.Decode("", &cfg), cfg.Validate(), source.Unclaimed(&cfg, append(serviceNames(), sections(source)...)))
		if err != nil {
			_, _ = fmt.Fprintf(problems, "%s: configuration:\n%v\n", name, err)
			return exitUsage
		}
		if rest[1] == "check" {
			_, _ = fmt.Fprintln(out, "the configuration is good")
			return exitOK
		}
	default:
		_, _ = fmt.Fprintf(problems, "%s: unknown command config %s; use check, default or dump\n", name, rest[1])
		return exitUsage
	}
	// Secrets print as [REDACTED].
	text, err := yaml.Marshal(&cfg)
	if err != nil {
		_, _ = fmt.Fprintf(problems, "%s: %v\n", name, err)
		return exitFailed
	}
	_, _ = fmt.Fprintf(out, "version: 1\n%s", text)
	return exitOK
}

// signalled returns a context that the first SIGINT or SIGTERM ends; the second ends the process at once.
func signalled(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		cancel()
		if _, more := <-signals; more {
			os.Exit(exitSignal)
		}
	}()
	return ctx, func() {
		cancel()
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
