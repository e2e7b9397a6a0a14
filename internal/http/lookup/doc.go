// Package lookup answers the look-ups of phone servers over HTTP, on the operators' listener and
// never on the public one.
//
//	GET  /v1/sip/credential?username&realm&algorithm     JSON, for Kamailio, OpenSIPS and scripts
//	POST /v1/freeswitch/directory                        FreeSWITCH, mod_xml_curl
//	POST /v1/asterisk/ps_auths/single, and others        Asterisk, res_config_curl
//
// Every request carries the token of a phone server (package sipserver), as a Bearer token or as
// the password of Basic authentication with any user name. mod_xml_curl (gateway-credentials) and
// res_config_curl (the user information of its URL) can send nothing else. A token in a URL is not
// accepted, because URLs are logged.
//
// # Answers
//
// Each protocol has its own format for answers and errors:
//
//	                  found            not found                  no token     too many   store down
//	credential        200 JSON         404 JSON                   401 JSON     429 JSON   503 JSON
//	FreeSWITCH        200 directory    200 result "not found"     401 JSON     429 JSON   503 JSON
//	Asterisk          200 one line     200, empty                 401, empty   429, empty 503, empty
//
// FreeSWITCH reads only the body of a 200. It does not ask a user without a hash for a password, so
// an inactive account is never returned as a user. Asterisk reads the body of every answer as a
// row, whatever the status, so a body that is not a row is empty, or the number that Asterisk
// expects after a write.
//
// # Limits
//
// A valid token is never delayed or refused because of other clients: it cannot be guessed, and
// phone servers may share an address with anything. It has its own rate limit, far above the needs
// of a registrar. Wrong tokens are counted by address; above the limit they get 429 and are not
// logged.
//
// # Cost
//
// A look-up allocates almost nothing: the form is parsed in place, the answer is built in a reused
// buffer, and header values are shared. Only the first look-up of an account within an hour is
// recorded, in the background. The remaining cost is net/http and one query.
package lookup
