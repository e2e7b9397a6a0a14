// Package directory is where phone servers look accounts up over HTTP: on the operators' listener, never the public one.
//
//	GET  /v1/sip/credential?username&realm&algorithm     JSON, for Kamailio, OpenSIPS and scripts
//	POST /v1/freeswitch/directory                        FreeSWITCH, mod_xml_curl
//	POST /v1/asterisk/ps_auths/single, and so on         Asterisk, res_config_curl
//
// Every request carries the token of a phone server (package phone), as a Bearer token or as the password of Basic authentication,
// whose user name says nothing: that is all that mod_xml_curl (gateway-credentials) and res_config_curl (the user information of its
// URL, which libcurl makes a header of) can send. None comes in an address, since addresses lie in logs.
//
// # Answers
//
// Each of the three speaks the language of its server, in what it finds and in what it does not:
//
//	                  found            not found                  no token     too much   store away
//	credential        200 JSON         404 JSON                   401 JSON     429 JSON   503 JSON
//	FreeSWITCH        200 directory    200 result "not found"     401 JSON     429 JSON   503 JSON
//	Asterisk          200 one line     200, empty                 401, empty   429, empty 503, empty
//
// FreeSWITCH reads the body of a 200 alone. It takes a user without a hash for one who needs no password, so whoever is not active is
// never a user in an answer. Asterisk reads the body of every answer, whatever its status, as a row: so there is nothing in a body
// that is not a row, save for the numbers that it expects of a write.
//
// # Limits
//
// A right token is never kept waiting for what others do: it cannot be guessed, and phone servers share addresses with who knows
// what else. It has a rate of its own, far above what a registrar needs, against a server gone wild. Wrong tokens are counted by
// address, and beyond a number neither looked at in the log nor answered with more than 429.
//
// # Cost
//
// A look-up writes nothing and allocates next to nothing: the query is taken apart in place, the answer made in a buffer that is used
// again, and headers are shared slices. What is left is net/http, and the store's one statement.
package lookup
