# Varnish in front of two healthd, as balancer_test.go runs it. Out after a bad
# check, in after two good ones; nothing is cached.
vcl 4.1;

import directors;

probe health {
	.url = "/health";
	.interval = ${INTER};
	.timeout = 1s;
	.window = 2;
	.threshold = 2;
}

backend healthd1 {
	.host = "${HEALTHD_1_HOST}";
	.port = "${HEALTHD_1_PORT}";
	.probe = health;
}

backend healthd2 {
	.host = "${HEALTHD_2_HOST}";
	.port = "${HEALTHD_2_PORT}";
	.probe = health;
}

sub vcl_init {
	new healthd = directors.round_robin();
	healthd.add_backend(healthd1);
	healthd.add_backend(healthd2);
}

sub vcl_recv {
	set req.backend_hint = healthd.backend();
	return (pass);
}
