package config

// Help is the reference page that -h prints.
const Help = `healthd answers GET /health over HTTP: may traffic come here?

usage:
  healthd [flags]              serve
  healthd probe [flags] [URL]  ask once; exit 0 for a 2xx answer, 1 for anything
                               else, 2 for wrong usage. With no URL, ask the
                               instance that the same settings describe.

Every flag has an environment variable of the same meaning. The flag wins, and
an empty variable is an unset one. Durations are a number and a unit: 500ms,
5s, 1m.

  -addr host:port     HEALTHD_ADDR     listen address (default :8080, or :$PORT
                                       if PORT is set)
  -drain duration     HEALTHD_DRAIN    how long to answer 503 "draining" after
                                       SIGTERM before leaving; 0 is none
                                       (default 5s)
  -timeout duration   HEALTHD_TIMEOUT  how long a probe may take (default 1s)
  -verbose            HEALTHD_VERBOSE  log every request (default false)
  -version                             print the version and exit
  -h                                   print this page and exit

GOMEMLIMIT, which Go's runtime reads, is the soft memory limit (default 40MiB).

signals:
  SIGTERM   answer "draining" for -drain, then finish what is in flight (10s at
            most) and exit 0
  SIGINT    the same without the drain
  A second signal ends the process at once.

exit codes of the server: 0 stopped as asked, 1 cannot listen, 2 wrong usage.
`
