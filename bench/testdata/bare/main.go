// Bare is the health check that everybody writes in ten lines. It is what
// healthd is measured against, so it has no limits, no drain and no manners.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
)

func main() {
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"status":"healthy"}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("msg=listening addr=%s", l.Addr())
	log.Fatal(http.Serve(l, nil))
}
