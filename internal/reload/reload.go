// Package reload keeps a value that is parsed from files, and parses it anew when their
// content changes. What the files mean is the caller's to know.
package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
)

// File is a path and its setting. Errors name the setting alone: the path may be a misplaced secret.
type File struct{ Setting, Path string }

// Value is the last good value of some files. After New only Watch reads them: no caller of
// another method waits for a disk that hangs.
type Value[T any] struct {
	name    string
	log     *slog.Logger
	parse   func(contents [][]byte) (T, error)
	files   []File
	seen    []any       // what read returned last
	asked   chan func() // to be called after the next look
	current atomic.Pointer[T]
}

// New reads the files, which the log calls name, and returns their value, or beside an error what
// parse made of them. No error of parse may hold a secret. Without files, nothing ever changes.
func New[T any](name string, log *slog.Logger, parse func([][]byte) (T, error), files ...File) (*Value[T], error) {
	v := &Value[T]{name: name, log: log, parse: parse, files: files, asked: make(chan func())}
	value, _, err := v.load()
	v.current.Store(&value)
	return v, err
}

func (v *Value[T]) Get() T { return *v.current.Load() }

// Refresh has Watch look at the files now, and waits for it some milliseconds at most.
func (v *Value[T]) Refresh() {
	if v.files == nil {
		return
	}
	wait, done := context.WithTimeout(context.Background(), 10*time.Millisecond)
	select {
	case v.asked <- done:
	case <-wait.Done():
	}
	<-wait.Done()
}

// Watch looks at the files every five seconds, at SIGHUP and for Refresh. It logs a bad one once.
func (v *Value[T]) Watch(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for v.files != nil {
		done := func() {}
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		case <-time.After(5 * time.Second):
		case done = <-v.asked:
		}
		switch value, changed, err := v.load(); {
		case changed && err != nil:
			v.log.Error("cannot reload; the last good value stays in use", "err", err)
		case changed:
			v.current.Store(&value)
			v.log.Info("reloaded", "setting", v.name)
		}
		done()
	}
}

// load parses contents that are new. Names and times do not tell: Kubernetes moves a link.
func (v *Value[T]) load() (value T, changed bool, err error) {
	contents, err := read(v.files)
	seen := []any{contents, err}
	changed = !reflect.DeepEqual(seen, v.seen)
	v.seen = seen
	if changed && err == nil {
		if value, err = v.parse(contents); err != nil {
			err = fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return value, changed, err
}

// read opens regular files only, not empty as those in /proc: others may be waited for without end.
func read(files []File) (contents [][]byte, err error) {
	for _, f := range files {
		info, err := os.Stat(f.Path)
		if err == nil && (!info.Mode().IsRegular() || info.Size() == 0 || info.Size() > 1<<20) {
			return nil, fmt.Errorf("%s: empty, or not a regular file of at most 1 MiB", f.Setting)
		}
		content, err := os.ReadFile(f.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Setting, errors.Unwrap(err)) // without the path
		}
		contents = append(contents, bytes.TrimPrefix(content, []byte("\ufeff"))) // Windows' byte order mark
	}
	return contents, nil
}
