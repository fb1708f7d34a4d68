// Bare is the health check that everybody writes in ten lines. It is what
// healthd is measured against, so it has no limits, no drain and no manners.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"status":"healthy"}`)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil)) // host:port
}
