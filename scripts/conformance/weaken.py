"""Marks versions that a program needs of its libraries as weak: the loader then warns of their lack instead of giving up.

weaken.py PROGRAM RESULT VERSION...
"""

import struct
import sys

VERNEED = 0x6FFFFFFE
WEAK = 2


def main(program, result, *versions):
    data = bytearray(open(program, "rb").read())
    (sections_at,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + n * size) for n in range(count)]
    for section in (section for section in sections if section[1] == VERNEED):
        names, library = sections[section[6]][4], section[4]
        while True:
            _, count, _, aux, step = struct.unpack_from("<HHIII", data, library)
            version = library + aux
            for _ in range(count):
                _, _, _, name, next_version = struct.unpack_from("<IHHII", data, version)
                text = data[names + name : data.index(0, names + name)].decode()
                if text in versions:
                    struct.pack_into("<H", data, version + 4, WEAK)
                version += next_version
            if step == 0:
                break
            library += step
    open(result, "wb").write(data)


main(*sys.argv[1:])
