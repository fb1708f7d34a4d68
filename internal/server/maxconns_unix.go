//go:build unix

package server

import "syscall"

// maxConns is how many connections may be open: 128, or half of the process's
// descriptors if that is less.
func maxConns() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 128
	}
	return int(min(128, uint64(limit.Cur)/2))
}
