// Healthd answers one question over HTTP: may traffic come here? See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"example.com/healthd/internal/auth"
	"example.com/healthd/internal/config"
	"example.com/healthd/internal/probe"
	"example.com/healthd/internal/reload"
	"example.com/healthd/internal/server"
	"example.com/healthd/internal/target"
	"example.com/healthd/internal/throttle"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the whole program. args are without the program's name. It returns
// the exit code: 0 done or stopped as asked, 1 failed, 2 wrong usage. The end
// of ctx stops a server as SIGINT does.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	// net/http's client prints what a misbehaving peer sent through package log.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	parse := func() (config.Config, error) { return config.Parse(args, getenv) }
	cfg, err := parse()
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, config.Help)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "healthd: %v\n", err)
		return 2
	case cfg.Version:
		fmt.Fprintf(stdout, "healthd %s\n", version)
		return 0
	case cfg.Probe:
		return ask(ctx, cfg, parse, stdout)
	}
	tune(getenv)
	return serve(ctx, cfg, log)
}

// tune sets what Go's own variables do not.
func tune(getenv func(string) string) {
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(40 << 20)
	}
	// A fifth less memory after load (make bench) for a collection that is small.
	if getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// With one P no idle one is woken for each accept: a probe on a connection of
	// its own takes about a fifth less processor time (make bench).
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// ask probes. While the settings keep changing, as when a Secret is rotated, an
// answer to the old ones is no verdict: it asks again, within the one timeout.
func ask(ctx context.Context, cfg config.Config, reread func() (config.Config, error), stdout io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	ok, line := question(cfg).Do(ctx)
	for !ok && ctx.Err() == nil {
		next, err := reread()
		if err != nil { // half swapped
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if reflect.DeepEqual(next, cfg) {
			break
		}
		cfg = next
		ok, line = question(cfg).Do(ctx)
	}
	fmt.Fprintln(stdout, line)
	if !ok {
		return 1
	}
	return 0
}

// question is what a probe asks, with the first credential of the first method
// that has one.
func question(cfg config.Config) probe.Probe {
	p := probe.Probe{URL: cfg.URL, Timeout: cfg.Timeout}
	if cfg.URL == "" {
		p.URL, p.Addr = "http://localhost/health", cfg.Addr
		if cfg.TLSCert != "" {
			p.URL, p.Pin = "https://localhost/health", cfg.Certificate.Certificate[0]
		}
	}
	for _, method := range cfg.Auth {
		if secret, known := cfg.Secrets[method]; known {
			p.Header = auth.Header(method, secret.Lines[0], time.Now())
			break
		}
	}
	return p
}

func serve(ctx context.Context, cfg config.Config, log *slog.Logger) int {
	throttled := throttle.New(log.Handler())
	defer throttled.Flush()
	strangers := slog.New(throttled) // for what anyone can cause
	watcher := target.New(cfg.Targets, cfg.Interval, cfg.Timeout, log)
	health := newHealth(watcher.Verdict)
	handler, looks := routes(cfg, health, strangers)
	srv := server.Server{
		Handler: handler,
		Log:     strangers,
		Drain:   cfg.Drain,
		OnStop:  health.drain,
		Verbose: cfg.Verbose,
	}
	if cfg.TLSCert != "" {
		srv.Certificate = reload.New(cfg.Certificate, log, config.ParseCertificate, cfg.TLSCert, cfg.TLSKey)
		looks = append(looks, srv.Certificate.Look)
	}
	if cfg.Clear() {
		log.Warn("credentials cross the network in clear text; set -tls-cert and -tls-key, or listen on loopback")
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { reload.Watch(ctx, looks...) })
	watching.Go(func() { watcher.Watch(ctx) })
	err := srv.Run(ctx, cfg.Addr)
	cancel()
	watching.Wait()
	if err != nil {
		log.Error("cannot serve", "err", err)
		return 1
	}
	return 0
}

// routes returns the handler of every path, locked as cfg says, and the looks
// at the credential files.
func routes(cfg config.Config, health http.Handler, log *slog.Logger) (handler http.Handler, looks []func()) {
	methods := make(map[string]auth.Method)
	lock, issuers := auth.Guard{Log: log}, auth.Guard{Log: log}
	for _, name := range slices.Concat(cfg.Auth, []string{"basic", "aksk"}) {
		secret, set := cfg.Secrets[name]
		if !set || methods[name] != nil {
			continue
		}
		m := auth.New(name, log, secret.Lines, secret.Parse, secret.Files...)
		methods[name] = m
		looks = append(looks, m.Look)
		if slices.Contains(cfg.Auth, name) {
			lock.Methods = append(lock.Methods, m)
		}
		if name != "jwt" { // a token buys no token
			issuers.Methods = append(issuers.Methods, m)
		}
	}
	if len(lock.Methods) > 0 {
		health = lock.Handler(health)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /health", health)
	if jwt, on := methods["jwt"].(auth.JWT); on && len(issuers.Methods) > 0 {
		mux.Handle("POST /token", jwt.Token(issuers))
	}
	return mux, looks
}
