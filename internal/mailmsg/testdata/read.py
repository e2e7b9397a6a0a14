# Prints what Python's parser makes of the messages whose files are named, as JSON.
import email.policy, json, sys

# Beyond the parser's own: the values of headers are parsed strictly by RFC 5322 and 2047.
policy = email.policy.SMTP
read = {}
for path in sys.argv[1:]:
    with open(path, "rb") as f:
        message = email.message_from_binary_file(f, policy=policy)
    parts = list(message.iter_parts())
    defects = [d for part in [message, *parts] for d in part.defects]
    defects += [d for part in [message, *parts] for value in part.values() for d in value.defects]
    sender, = message["From"].addresses
    to, = message["To"].addresses
    answers = [a.addr_spec for a in message["Reply-To"].addresses] if message["Reply-To"] else [""]
    read[path] = {
        "Subject": message["Subject"], "Name": sender.display_name, "Address": sender.addr_spec, "To": to.addr_spec, "ReplyTo": answers[0],
        "Type": message.get_content_type(),
        "Parts": [[part.get_content_type(), part.get_content().replace("\r\n", "\n")] for part in parts],
        "Defects": [repr(d) for d in defects],
    }
json.dump(read, sys.stdout)
