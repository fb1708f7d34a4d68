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
  -auth methods       HEALTHD_AUTH     lock /health: a comma-separated list of
                                       basic, aksk, jwt, any one of which
                                       admits (default none)
  -drain duration     HEALTHD_DRAIN    how long to answer 503 "draining" after
                                       SIGTERM before leaving; 0 is none
                                       (default 5s)
  -target url         HEALTHD_TARGETS  speak for this: tcp://host:port and
                                       unix:///path must accept a connection,
                                       http:// and https:// must answer 200-399.
                                       Repeat the flag; the variable is a
                                       comma-separated list (default none)
  -interval duration  HEALTHD_INTERVAL between a target's checks (default 5s)
  -timeout duration   HEALTHD_TIMEOUT  how long a check of a target, or a probe,
                                       may take (default 1s)
  -tls-cert file      HEALTHD_TLS_CERT PEM certificate and chain (default none)
  -tls-key file       HEALTHD_TLS_KEY  its PEM key; both or neither
  -verbose            HEALTHD_VERBOSE  log every request (default false)
  -version                             print the version and exit
  -h                                   print this page and exit

Go's runtime reads GOMEMLIMIT, the soft memory limit (default 40MiB), GOGC
(default 50), and GOMAXPROCS, how many threads run Go code at once (default 1).

Secrets have no flag, for a command line is visible to others. Each is in a
variable or in a file that another variable names:

  HEALTHD_BASIC       HEALTHD_BASIC_FILE       user:password
  HEALTHD_AKSK        HEALTHD_AKSK_FILE        access-key:secret-key
  HEALTHD_JWT_SECRET  HEALTHD_JWT_SECRET_FILE  at least 32 bytes

A file holds one credential a line; blank lines and # lines are skipped. Every
line is accepted, and the first one signs and probes. Credential and TLS files
are re-read within 10s of a change. With jwt on and HEALTHD_BASIC or
HEALTHD_AKSK set, POST /token gives a token, valid 30m, to those who have one.

signals:
  SIGTERM   answer "draining" for -drain, then finish what is in flight (10s at
            most) and exit 0
  SIGINT    the same without the drain
  A second signal ends the process at once.

exit codes of the server: 0 stopped as asked, 1 cannot listen, 2 wrong usage.
`
