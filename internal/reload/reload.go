// Package reload keeps a value that is parsed from files, and parses it anew
// when their content changes. What the files mean is the caller's to know.
package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	every       = 5 * time.Second       // how often files are read
	refreshWait = 10 * time.Millisecond // the most that Refresh takes
	maxFile     = 1 << 20               // bytes
)

// File is a path and the setting that holds it. Errors and the log name the
// setting alone: a secret may have been put where the path belongs.
type File struct{ Setting, Path string }

// Value is the last good value of some files. Only [Value.Watch] reads them:
// no caller of another method waits for a disk that hangs.
type Value[T any] struct {
	name    string // of the settings
	files   []File
	parse   func(contents [][]byte) (T, error)
	log     *slog.Logger
	current atomic.Pointer[T]

	// Of the reader alone.
	seen   [][]byte // what was parsed last, with success or without
	failed string   // why the files could not be read, to log it once

	ask  chan struct{} // for a read now
	mu   sync.Mutex
	next chan struct{} // closed after the next read that begins
}

// New reads the files and returns their value, or beside an error what parse made
// of them. parse takes the contents in the order of files; its errors must hold no
// secret.
func New[T any](log *slog.Logger, parse func(contents [][]byte) (T, error), files ...File) (*Value[T], error) {
	v := &Value[T]{files: files, parse: parse, log: log, ask: make(chan struct{}, 1), next: make(chan struct{})}
	for i, f := range files {
		v.name += strings.Repeat(", ", min(i, 1)) + f.Setting
	}
	value, err := v.load()
	v.current.Store(&value)
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

// Refresh has the files read now, and waits for it some milliseconds at most.
func (v *Value[T]) Refresh() {
	if v.files == nil {
		return
	}
	v.mu.Lock()
	done := v.next
	v.mu.Unlock()
	select {
	case v.ask <- struct{}{}:
	default: // someone has asked already
	}
	select {
	case <-done:
	case <-time.After(refreshWait):
	}
}

// Watch reads the files every few seconds, at SIGHUP and for Refresh, until ctx
// ends. What cannot be read or parsed is logged once and changes nothing.
func (v *Value[T]) Watch(ctx context.Context) {
	if v.files == nil {
		return
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		case <-tick.C:
		case <-v.ask:
		}
		v.mu.Lock()
		done := v.next
		v.next = make(chan struct{})
		v.mu.Unlock()
		v.refresh()
		close(done)
	}
}

// refresh compares contents, not times or names: it does not matter whether a
// file was written, renamed, or moved behind a symbolic link, as Kubernetes does
// with a mounted Secret.
func (v *Value[T]) refresh() {
	contents, err := Read(v.files...)
	if err == nil && slices.EqualFunc(contents, v.seen, bytes.Equal) {
		v.failed = ""
		return
	}
	switch value, err := v.load(); {
	case err == nil:
		v.current.Store(&value)
		v.log.Info("reloaded", "setting", v.name)
	case err.Error() != v.failed:
		v.failed = err.Error()
		v.log.Error("cannot reload; the last good value stays in use", "err", err)
	}
}

// load reads and parses. It tries twice, for files that are swapped together may
// have been read half before and half after.
func (v *Value[T]) load() (value T, err error) {
	for range 2 {
		var contents [][]byte
		if contents, err = Read(v.files...); err != nil {
			continue
		}
		v.seen, v.failed = contents, ""
		if value, err = v.parse(contents); err == nil {
			break
		}
		err = fmt.Errorf("%s: %w", v.name, err)
	}
	return value, err
}

// Read returns the contents of regular files of at most 1 MiB each. It opens
// nothing else: to open a FIFO is to wait for its writer.
func Read(files ...File) (contents [][]byte, err error) {
	for _, f := range files {
		content, err := read(f.Path)
		if inner := new(fs.PathError); errors.As(err, &inner) {
			err = inner.Err // without the path
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Setting, err)
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(content) > maxFile {
		return nil, errors.New("larger than 1 MiB")
	}
	return content, err
}
