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
// Each protocol has its own form of answers and errors:
//
//	                  found            not found                  no token     too many   store down
//	credential        200 JSON         404 JSON                   401 JSON     429 JSON   503 JSON
//	FreeSWITCH        200 directory    200 result "not found"     401 JSON     429 JSON   503 JSON
//	Asterisk          200 one line     200, empty                 401, empty   429, empty 503, empty
//
// FreeSWITCH reads the body of a 200 only. It asks no password of a user that has no hash, so an
// account that is not active is never a user in an answer. Asterisk reads the body of every
// answer as a row, whatever the status, so a body that is not a row is empty, or the number that
// Asterisk expects after a write.
//
// # Limits
//
// A valid token is never delayed or refused because of other clients: it cannot be guessed, and
// phone servers may share an address with anything. It has a rate limit of its own, far above the
// needs of a registrar. Wrong tokens are counted by address; above the limit they are answered with
// 429 and not logged.
//
// # Cost
//
// A look-up allocates almost nothing: the form is parsed in place, the answer is built in a reused
// buffer, and header values are shared. It writes nothing, unless it is the first one of the account within
// an hour, which is then written in the background. What remains is net/http and one query.
package lookup
