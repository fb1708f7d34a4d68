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

	"healthd/internal/config"
	"healthd/internal/probe"
	"healthd/internal/server"
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
	slog.SetDefault(log) // net/http's client writes to package log
	cfg, err := config.Parse(args, getenv)
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
		return ask(ctx, cfg, stdout)
	}
	return serve(ctx, cfg, log)
}

func ask(ctx context.Context, cfg config.Config, stdout io.Writer) int {
	p := probe.Probe{URL: cfg.URL, Timeout: cfg.Timeout}
	if p.URL == "" {
		p.URL, p.Addr = "http://localhost/health", cfg.Addr
	}
	ok, line := p.Do(ctx)
	fmt.Fprintln(stdout, line)
	if !ok {
		return 1
	}
	return 0
}

func serve(ctx context.Context, cfg config.Config, log *slog.Logger) int {
	health := newHealth()
	srv := server.Server{
		Handler: routes(health),
		Log:     log,
		Drain:   cfg.Drain,
		OnStop:  health.drain,
		Verbose: cfg.Verbose,
	}
	if err := srv.Run(ctx, cfg.Addr); err != nil {
		log.Error("cannot serve", "err", err)
		return 1
	}
	return 0
}

func routes(health http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /health", health)
	return mux
}
