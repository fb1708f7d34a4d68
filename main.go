// Healthd answers one question over HTTP: may traffic come here? See README.md.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"example.com/healthd/internal/auth"
	"example.com/healthd/internal/config"
	"example.com/healthd/internal/probe"
	"example.com/healthd/internal/reload"
	"example.com/healthd/internal/server"
	"example.com/healthd/internal/target"
	"example.com/healthd/internal/throttle"
)

var version = "dev" // set by the linker: -ldflags "-X main.version=v1.2.3"

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }

// run is the whole program, until ctx ends, which stops a server as SIGINT does. The exit code is
// 0 for done or stopped as asked, 1 for failed, 2 for wrong usage.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (code int) {
	// The log's reader may go, and a renewal hook may signal where there is no file to re-read.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	cfg, err := config.Parse(args, getenv)
	switch {
	case err == flag.ErrHelp:
		fmt.Fprint(stdout, config.Help)
		return 0
	case err != nil:
	case cfg.Version:
		fmt.Fprintf(stdout, "healthd %s\n", version)
	case cfg.Probe:
		code, err = runProbe(ctx, cfg, stdout)
	default:
		if getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(40 << 20)
		}
		if getenv("GOMAXPROCS") == "" { // with one P, none is woken for each accept: a quarter less CPU (make bench)
			runtime.GOMAXPROCS(1)
		}
		code, err = serve(ctx, cfg, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "healthd: %v\n", err)
		return 2
	}
	return code
}

// serve returns an error if a file that cfg names is not usable.
func serve(ctx context.Context, cfg config.Config, stderr io.Writer) (code int, err error) {
	lines := throttle.New(stderr)
	defer lines.Close()
	log := slog.New(lines)
	// net/http's client prints what a misbehaving peer sent through package log.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the watchers: nobody waits for their end, since a disk that they read may hang
	methods := make(map[string]auth.Method)
	for name, secret := range cfg.Secrets {
		credentials, err := load(secret, log)
		if err != nil {
			return 0, err
		}
		go credentials.Watch(ctx)
		methods[name] = map[string]auth.Method{
			"basic": auth.NewBasic(credentials),
			"aksk":  auth.NewAccessKey(credentials),
			"jwt":   auth.NewJWT(credentials, time.Now),
		}[name]
	}
	targets := target.New(cfg.Targets, cfg.Interval, cfg.Timeout, log)
	health := &health{verdict: targets.Verdict}
	handler := routes(cfg.Auth, health, methods, log)
	srv := server.Server{Handler: handler, Log: log, Draining: &health.draining, Drain: cfg.Drain, Verbose: cfg.Verbose}
	if cert, key := reload.File(cfg.TLSCert), reload.File(cfg.TLSKey); cert.Path != "" {
		names := cert.Setting + ", " + key.Setting
		if srv.Certificate, err = reload.New(names, log, server.ParseCertificate, cert, key); err != nil {
			return 0, err
		}
		go srv.Certificate.Watch(ctx)
	}
	if cfg.PlaintextAuth() {
		log.Warn("credentials cross the network in clear text; set -tls-cert and -tls-key, or listen on loopback")
	}
	go targets.Watch(ctx)
	if err := srv.Run(ctx, cfg.Addr); err != nil {
		log.Error("cannot serve", "err", err)
		return 1, nil
	}
	return 0, nil
}

// load returns the credentials of a secret, now and when they change.
func load(s config.Secret, log *slog.Logger) (*auth.Credentials, error) {
	if s.Line != "" {
		return reload.Fixed(auth.NewCredentials([]string{s.Line})), nil
	}
	return reload.New(s.File.Setting, log, func(contents [][]byte) ([]auth.Credential, error) {
		lines, err := s.Parse(contents[0])
		return auth.NewCredentials(lines), err
	}, reload.File(s.File))
}

// routes returns the handler of every path, locked by the methods named.
func routes(named []string, health http.Handler, methods map[string]auth.Method, log *slog.Logger) http.Handler {
	lock, issuers := auth.Guard{Log: log}, auth.Guard{Log: log}
	for _, name := range named {
		lock.Methods = append(lock.Methods, methods[name])
	}
	for _, name := range []string{"basic", "aksk"} { // a token buys no token
		if m, set := methods[name]; set {
			issuers.Methods = append(issuers.Methods, m)
		}
	}
	if len(lock.Methods) > 0 {
		health = lock.Handler(health)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /health", health)
	if jwt, on := methods["jwt"]; on && len(issuers.Methods) > 0 {
		mux.Handle("POST /token", auth.NewToken(jwt.Credentials, time.Now, issuers))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" || r.URL.Path == "/token" {
			mux.ServeHTTP(w, r)
		} else { // ServeMux would redirect //health, and balancers take a 3xx for healthy
			http.NotFound(w, r)
		}
	})
}

// runProbe asks, and asks again while that fails and the files have changed since.
func runProbe(ctx context.Context, cfg config.Config, stdout io.Writer) (code int, err error) {
	// Do ends in time by itself, but not the read of a disk that hangs.
	defer time.AfterFunc(cfg.Timeout+100*time.Millisecond, func() {
		fmt.Fprintf(stdout, "no file was read, or no answer came, within %v\n", cfg.Timeout)
		os.Exit(1)
	}).Stop()
	var p, asked probe.Probe
	line, now := "", time.Now()
	for mistakes := 0; mistakes < 2 && time.Since(now) < cfg.Timeout; {
		if p, err = newProbe(cfg, now); err != nil {
			mistakes++
			continue
		}
		if reflect.DeepEqual(p, asked) {
			break
		}
		if code, line = p.Do(ctx); code == 0 {
			break
		}
		asked, mistakes = p, 0
	}
	if err == nil {
		fmt.Fprintln(stdout, line)
	}
	return code, err
}

// newProbe makes do with another line, or another method, where one does not parse: the
// server, too, goes on with what was good.
func newProbe(cfg config.Config, now time.Time) (p probe.Probe, err error) {
	for _, method := range cfg.Auth {
		credentials, mistake := load(cfg.Secrets[method], nil)
		if all := credentials.Get(); len(all) > 0 {
			p.Header, err = auth.Header(method, all[0].Line, now), nil
			break
		}
		err = cmp.Or(err, mistake)
	}
	p.URL, p.Timeout = cfg.URL, cfg.Timeout
	if cert := reload.File(cfg.TLSCert); cfg.URL == "" && cert.Path != "" {
		leaf, mistake := reload.New(cert.Setting, nil, probe.Leaf, cert)
		p.URL, p.Addr, p.Pin, err = "https://localhost/health", cfg.Addr, leaf.Get(), cmp.Or(err, mistake)
	} else if cfg.URL == "" {
		p.URL, p.Addr = "http://localhost/health", cfg.Addr
	}
	return p, err
}
