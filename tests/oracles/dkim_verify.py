"""Do the DKIM signatures of these messages hold, in the eyes of dkimpy?

Standard input: frames of a four-octet big-endian length and that many octets. The first frame is a JSON object of TXT
answers by name (no final dot), every other one a message. Standard output: for each message one line of JSON,
{"signatures": n, "valid": [true, ...], "error": null or text}.

Needs dkimpy, dnspython and pynacl.
"""

import json
import struct
import sys

import dkim


def frames(stream):
    while head := stream.read(4):
        (length,) = struct.unpack(">I", head)
        octets = stream.read(length)
        if len(head) < 4 or len(octets) < length:
            raise EOFError("the last frame is cut short")
        yield octets


def judge(message, answers):
    def lookup(name, timeout=5):
        answer = answers.get(name.decode("ascii").rstrip("."))
        return answer.encode("ascii") if answer is not None else None

    verifier = dkim.DKIM(message)
    count = sum(1 for name, _ in verifier.headers if name.lower() == b"dkim-signature")
    valid, error = [], None
    for index in range(count):
        try:
            valid.append(verifier.verify(idx=index, dnsfunc=lookup))
        except Exception as fault:  # whatever dkimpy raises is a verdict here
            valid.append(False)
            error = f"{type(fault).__name__}: {fault}"
    return {"signatures": count, "valid": valid, "error": error}


def main():
    stream = frames(sys.stdin.buffer)
    answers = json.loads(next(stream))
    for message in stream:
        print(json.dumps(judge(message, answers)), flush=True)


if __name__ == "__main__":
    main()
