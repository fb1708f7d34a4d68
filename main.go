// Healthd answers one question over HTTP: may traffic come here? See README.md.
package main

import (
	"cmp"
	"context"
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
	// SIGPIPE: the log's reader may go. SIGHUP: a renewal hook may send it where no file is watched.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	cfg, err := config.Parse(args, getenv)
	switch {
	case err != nil: // told below
	case cfg.Help:
		fmt.Fprint(stdout, config.Help)
	case cfg.Version:
		fmt.Fprintf(stdout, "healthd %s\n", version)
	case cfg.Probe:
		code, err = runProbe(ctx, cfg, stdout)
	default:
		if getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(40 << 20)
		}
		if getenv("GOGC") == "" { // a fifth less memory after load (make bench)
			debug.SetGCPercent(50)
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
	// What a misbehaving peer sent, net/http's client prints through package log: DEBUG is dropped.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the watchers: nobody waits for their end, since a disk that they read may hang
	credentials := make(map[string]*auth.Credentials)
	for method, secret := range cfg.Secrets {
		if credentials[method], err = load(secret, log); err != nil {
			return 0, err
		}
		go credentials[method].Watch(ctx)
	}
	targets := target.New(cfg.Targets, cfg.Interval, cfg.Timeout, log)
	health := &health{verdict: targets.Verdict}
	handler := routes(cfg.Auth, health, credentials, log)
	srv := server.Server{Handler: handler, Log: log, Draining: &health.draining, Drain: cfg.Drain, Verbose: cfg.Verbose}
	if cert, key := reload.File(cfg.TLSCert), reload.File(cfg.TLSKey); cert.Path != "" {
		if srv.Certificate, err = reload.New(cert.Setting+", "+key.Setting, log, server.ParseCertificate, cert, key); err != nil {
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
		code = 1
	}
	return code, nil
}

func load(s config.Secret, log *slog.Logger) (*auth.Credentials, error) {
	if s.Line != "" {
		return reload.New("", log, func([][]byte) ([]auth.Credential, error) { return auth.NewCredentials([]string{s.Line}), nil })
	}
	return reload.New(s.File.Setting, log, func(contents [][]byte) ([]auth.Credential, error) {
		lines, err := s.Parse(contents[0])
		return auth.NewCredentials(lines), err
	}, reload.File(s.File))
}

// routes returns the handler of every path, with health locked by the methods named.
func routes(named []string, health http.Handler, credentials map[string]*auth.Credentials, log *slog.Logger) http.Handler {
	methods := map[string]auth.Method{
		"basic": auth.NewBasic(credentials["basic"]),
		"aksk":  auth.NewAccessKey(credentials["aksk"]),
		"jwt":   auth.NewJWT(credentials["jwt"], time.Now),
	}
	lock, issuers := auth.Guard{Log: log}, auth.Guard{Log: log}
	for _, name := range named {
		lock.Methods = append(lock.Methods, methods[name])
	}
	for _, name := range []string{"basic", "aksk"} { // a token buys no token
		if credentials[name] != nil {
			issuers.Methods = append(issuers.Methods, methods[name])
		}
	}
	if len(named) > 0 {
		health = lock.Handler(health)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /health", health)
	if keys := credentials["jwt"]; keys != nil && len(issuers.Methods) > 0 {
		mux.Handle("POST /token", auth.NewToken(keys, time.Now, issuers))
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
	line, now := "no answer came in time", time.Now()
	for code = 1; code != 0 && time.Since(now) < cfg.Timeout; asked = p {
		if p, err = newProbe(cfg, now); err != nil { // half of a swap, perhaps
			p, err = newProbe(cfg, now)
		}
		if err != nil || reflect.DeepEqual(p, asked) {
			break
		}
		code, line = p.Do(ctx)
	}
	if err == nil {
		fmt.Fprintln(stdout, line)
	}
	return code, err
}

// newProbe takes the first credential that parses, of any method: the server, too, keeps what is good.
func newProbe(cfg config.Config, now time.Time) (p probe.Probe, err error) {
	p = probe.Probe{URL: cmp.Or(cfg.URL, "http://localhost/health"), Addr: cfg.Addr, Timeout: cfg.Timeout}
	for _, method := range cfg.Auth {
		credentials, mistake := load(cfg.Secrets[method], nil)
		if all := credentials.Get(); len(all) > 0 {
			p.Header, err = auth.Header(method, all[0].Line, now), nil
			break
		}
		err = cmp.Or(err, mistake)
	}
	if cert := reload.File(cfg.TLSCert); cert.Path != "" {
		leaf, mistake := reload.New(cert.Setting, nil, probe.Leaf, cert)
		p.URL, p.Pin, err = "https://localhost/health", leaf.Get(), cmp.Or(err, mistake)
	}
	return p, err
}
