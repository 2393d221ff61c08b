"""Programs that mean no harm: the sandbox grants what they need."""

import pytest

from knexa.evaluation import Executor
from tests.sandbox.conftest import make_problem

HONEST = {
    "threads": (
        "    import threading\n    got = []\n"
        "    def work(n): got.append(n * x)\n"
        "    many = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "    [each.start() for each in many], [each.join() for each in many]\n"
        "    return sum(got) * 2 // 28\n"
    ),
    "thread pool": (
        "    from concurrent.futures import ThreadPoolExecutor\n"
        "    with ThreadPoolExecutor(4) as pool: return sum(pool.map(int, [x] * 2))\n"
    ),
    "asyncio": (
        "    import asyncio\n"
        "    async def half():\n        await asyncio.sleep(0.001)\n        return x\n"
        "    async def both(): return sum(await asyncio.gather(half(), half()))\n"
        "    return asyncio.run(both())\n"
    ),
    "file without a name": (
        "    import tempfile\n    with tempfile.TemporaryFile() as file:\n"
        "        file.write(bytes([x])); file.seek(0); return file.read()[0] * 2\n"
    ),
    "files": (
        "    import os, shutil, tempfile\n"
        "    with tempfile.TemporaryDirectory() as folder:\n"
        "        path = os.path.join(folder, 'a')\n"
        "        with open(path, 'w') as file:\n"
        "            print(x, file=file); file.flush(); os.fsync(file.fileno())\n"
        "        shutil.copy2(path, path + 'b'); shutil.copytree(folder, folder + '2')\n"
        "        os.replace(path, path + 'c'); shutil.rmtree(folder + '2')\n"
        "        with open(path + 'b') as file: return int(file.read()) * 2\n"
    ),
    "mapped file": (
        "    import mmap\n"
        "    with open('m', 'w+b') as file:\n        file.truncate(4096)\n"
        "        with mmap.mmap(file.fileno(), 0) as held:\n"
        "            held[0] = x; held.flush(); return held[0] * 2\n"
    ),
    "database in memory": (
        "    import sqlite3\n    base = sqlite3.connect(':memory:')\n"
        "    base.execute('create table t (n)')\n"
        "    base.executemany('insert into t values (?)', [(x,), (x,)])\n"
        "    return base.execute('select sum(n) from t').fetchone()[0]\n"
    ),
    "clocks and alarms": (
        "    import signal, time\n    got = []\n"
        "    signal.signal(signal.SIGALRM, lambda *_: got.append(x))\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "    while not got: time.sleep(0.001)\n"
        "    time.perf_counter(), time.process_time(), time.thread_time(), time.time_ns()\n"
        "    return got[0] * 2\n"
    ),
    "subsystems": (
        "    import datetime, gzip, hashlib, locale, logging, lzma, os, pickle, platform, queue\n"
        "    import secrets, uuid, zlib, zoneinfo\n"
        "    logging.getLogger('a').warning('b'); secrets.token_hex(); uuid.uuid4()\n"
        "    os.urandom(9), platform.platform(), os.cpu_count()\n"
        "    locale.setlocale(locale.LC_ALL, '')\n"
        "    zlib.decompress(zlib.compress(b'a')); lzma.compress(b'a'); gzip.compress(b'a')\n"
        "    datetime.datetime.now(zoneinfo.ZoneInfo('UTC'))\n"
        "    return pickle.loads(pickle.dumps(x)) * 2\n"
    ),
    "pipes and polls": (
        "    import os, select, selectors\n    a, b = os.pipe()\n    os.write(b, bytes([x]))\n"
        "    select.select([a], [], [], 1); poll = select.poll(); poll.register(a); poll.poll(1)\n"
        "    with selectors.DefaultSelector() as all_: all_.register(a, 1); all_.select(1)\n"
        "    return os.read(a, 1)[0] * 2\n"
    ),
    "large memory given back": (
        "    for _ in range(5):\n        held = [bytearray(1 << 20) for _ in range(40)]\n"
        "        del held\n    return x * 2\n"
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_program_has_the_calls_that_it_needs(executor: Executor, name: str) -> None:
    problem = make_problem("assert candidate(21) == 42\n")
    (result,) = executor.run([(problem, HONEST[name])])
    assert result.passed, result
