// Package reload keeps a value that is parsed from files, and parses it anew when their
// content changes. What the files mean is the caller's to know.
package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	every       = 5 * time.Second
	refreshWait = 10 * time.Millisecond
	maxFile     = 1 << 20 // bytes
)

// File is a path and the setting that holds it. Errors and the log name the setting alone:
// a secret may have been put where the path belongs.
type File struct{ Setting, Path string }

// Value is the last good value of some files. After New only Watch reads them: no caller of
// another method waits for a disk that hangs.
type Value[T any] struct {
	name    string
	log     *slog.Logger
	parse   func(contents [][]byte) (T, error)
	files   []File
	seen    [][]byte // what was parsed last, or why it could not be read
	current atomic.Pointer[T]
	asked   chan chan struct{} // to be closed after a read
}

// New reads the files and returns their value, or beside an error what parse made of them.
// parse takes the contents in the order of files; its errors must hold no secret. name is
// what errors and the log call the files.
func New[T any](name string, log *slog.Logger, parse func(contents [][]byte) (T, error), files ...File) (*Value[T], error) {
	v := &Value[T]{name: name, log: log, parse: parse, files: files, asked: make(chan chan struct{})}
	v.current.Store(new(T))
	_, err := v.load()
	return v, err
}

// Fixed returns a Value that never changes.
func Fixed[T any](value T) *Value[T] {
	v := new(Value[T])
	v.current.Store(&value)
	return v
}

// Get returns the last good value.
func (v *Value[T]) Get() T { return *v.current.Load() }

// Refresh has Watch read the files now, and waits for it some milliseconds at most.
func (v *Value[T]) Refresh() {
	if v.files == nil {
		return
	}
	done, timeout := make(chan struct{}), time.After(refreshWait)
	select {
	case v.asked <- done:
		select {
		case <-done:
		case <-timeout:
		}
	case <-timeout:
	}
}

// Watch reads the files every five seconds, at SIGHUP and for Refresh, until ctx ends. What
// cannot be read or parsed is logged once and changes nothing.
func (v *Value[T]) Watch(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for v.files != nil {
		done := make(chan struct{})
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		case <-tick.C:
		case done = <-v.asked:
		}
		v.refresh()
		close(done)
	}
}

func (v *Value[T]) refresh() {
	switch changed, err := v.load(); {
	case err != nil:
		v.log.Error("cannot reload; the last good value stays in use", "err", err)
	case changed:
		v.log.Info("reloaded", "setting", v.name)
	}
}

// load parses what has changed. It compares contents, not times or names: it does not matter
// whether a file was written, renamed, or moved behind a link, as Kubernetes does.
func (v *Value[T]) load() (changed bool, err error) {
	contents, err := read(v.files)
	if err != nil {
		contents = [][]byte{[]byte(err.Error())} // which is news, too
	}
	first := v.seen == nil
	if slices.EqualFunc(contents, v.seen, bytes.Equal) {
		return false, nil
	}
	if v.seen = contents; err != nil {
		return true, err
	}
	value, err := v.parse(contents)
	if err == nil || first {
		v.current.Store(&value)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", v.name, err)
	}
	return true, err
}

// read opens regular files only: to open a FIFO is to wait for its writer.
func read(files []File) (contents [][]byte, err error) {
	for _, f := range files {
		var content []byte
		info, err := os.Stat(f.Path)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
			err = &fs.PathError{Err: errors.New("not a regular file of at most 1 MiB")}
		}
		if err == nil {
			content, err = os.ReadFile(f.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Setting, errors.Unwrap(err)) // without the path
		}
		contents = append(contents, content)
	}
	return contents, nil
}
