//go:build !unix

package server

// maxConns is how many connections may be open.
func maxConns() int { return 128 }
