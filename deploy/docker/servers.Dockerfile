# The other servers of compose.yaml, from Debian's packages.
FROM debian:bookworm-slim AS base
ENV DEBIAN_FRONTEND=noninteractive

FROM base AS kamailio
RUN apt-get update \
	&& apt-get install -y --no-install-recommends kamailio kamailio-extra-modules kamailio-utils-modules \
	&& rm -rf /var/lib/apt/lists/*
# -DD: in the foreground; -E: the log to standard error.
CMD ["kamailio", "-DD", "-E", "-m", "256", "-u", "kamailio", "-g", "kamailio", "-f", "/etc/kamailio/kamailio.cfg"]

FROM base AS coturn
RUN apt-get update \
	&& apt-get install -y --no-install-recommends coturn \
	&& rm -rf /var/lib/apt/lists/*
CMD ["turnserver", "-c", "/etc/turnserver.conf", "--log-file=stdout", "--proc-user=turnserver", "--proc-group=turnserver"]

FROM base AS postfix
RUN echo "postfix postfix/main_mailer_type select Internet Site" | debconf-set-selections \
	&& apt-get update \
	&& apt-get install -y --no-install-recommends ca-certificates postfix \
	&& rm -rf /var/lib/apt/lists/* \
	&& postconf maillog_file=/dev/stdout inet_interfaces=loopback-only mydestination= \
		smtp_tls_security_level=may smtp_tls_CApath=/etc/ssl/certs
CMD ["postfix", "start-fg"]
