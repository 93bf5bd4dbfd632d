"""What an application sees with redis-py, in both protocols: one line per step. Run as `story_redis_py.py PORT`."""

import re
import sys
import threading
import time

import redis

PORT = int(sys.argv[1])
PREFIX = ""


def connect(**options):
    return redis.Redis(port=PORT, decode_responses=True, protocol=int(PREFIX[-1]), **options)


def show(name, value):
    print(f"{PREFIX} {name}: {value!r}")


def outcome(call):
    try:
        return call()
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


def reached(check):
    deadline = time.monotonic() + 5
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


def basics(client):
    show("set", [client.set("s:a", 1), client.incr("s:a"), client.get("s:a")])
    show("hash", [client.hset("s:h", mapping={"a": 1, "b": 2}), client.hgetall("s:h"), client.hgetall("s:none")])
    show("zset", [client.zadd("s:z", {"a": 1.5, "b": 2}), client.zrange("s:z", 0, -1, withscores=True)])
    show("geo", [client.geoadd("s:g", (13.361389, 38.115556, "p")), client.geopos("s:g", "p")])
    show("wrong type", outcome(lambda: client.lpush("s:a", "x")))
    show("unknown", outcome(lambda: client.execute_command("NOSUCH", "x")))
    show("role", client.role()[0])
    show("config", client.config_get("maxmemory-policy"))


def pipelines(client):
    with client.pipeline(transaction=False) as pipe:
        for number in range(200):
            pipe.set(f"p:{number % 7}", number).get(f"p:{number % 7}")
        show("pipeline reads its writes", pipe.execute()[1::2] == [str(number) for number in range(200)])
    with client.pipeline() as pipe:
        show("multi", pipe.set("t:a", 1).incr("t:a").get("t:a").execute())
        show("multi with an error", pipe.set("t:x", "a").incr("t:x").execute(raise_on_error=False))
        pipe.watch("t:w")
        client.set("t:w", "changed")
        pipe.multi()
        pipe.set("t:w", "mine")
        show("watched", outcome(pipe.execute))
    show("transaction", client.transaction(lambda pipe: (pipe.multi(), pipe.set("t:w", "mine")), "t:w"))
    with client.lock("lock", timeout=5) as lock:
        show("lock", [lock.owned(), client.exists("lock")])
    show("released", client.exists("lock"))


def messages(client):
    subscriber = client.pubsub()
    subscriber.subscribe("news")
    subscriber.psubscribe("n*")
    subscriber.ssubscribe("shard")
    heard = [subscriber.get_message(timeout=5) for _ in range(3)]
    show("subscribed", sorted((message["type"], message["channel"], message["data"]) for message in heard))
    show("publish", [client.publish("news", "hello"), client.spublish("shard", "hi")])
    heard = [subscriber.get_message(timeout=5) or subscriber.get_sharded_message(timeout=5) for _ in range(3)]
    show("heard", sorted((message["type"], message["channel"], message["data"]) for message in heard))
    subscriber.ping("still there")
    show("pong", subscriber.get_message(timeout=5))
    subscriber.close()


def blocking(client):
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(client.blpop("b:list", 5)))
    waiter.start()
    time.sleep(0.05)
    client.rpush("b:list", "x")
    waiter.join()
    show("blpop", answers)
    show("nothing came", client.blpop("b:none", 0.05))
    show("wait", client.wait(0, 10) >= 0)


def scans(client):
    with client.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.set(f"scan:{number}", 1).hset("scan-hash", f"f{number}", 1)
            pipe.sadd("scan-set", number).zadd("scan-zset", {number: number})
        pipe.execute()
    show("scan_iter", len(set(client.scan_iter("scan:*", count=17))))
    show("hscan_iter", len(dict(client.hscan_iter("scan-hash", count=17))))
    show("sscan_iter", len(set(client.sscan_iter("scan-set", count=17))))
    show("zscan_iter", len(dict(client.zscan_iter("scan-zset", count=17))))


def scripts_and_streams(client):
    both = client.register_script("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])")
    show("script", [both(["l:a"], ["one"]), both(["l:a"], ["two"])])
    client.script_flush()
    show("script again", both(["l:a"], ["three"]))
    show("eval_ro", client.eval_ro("return redis.call('GET', KEYS[1])", 1, "l:a"))
    show("script error", outcome(lambda: client.eval("return redis.error_reply('MINE said so')", 0)))
    library = "#!lua name=lib\nredis.register_function('twice', function(_, a) return a[1] * 2 end)"
    show("function", [client.function_load(library, replace=True), client.fcall("twice", 0, 21)])
    show("group", client.xgroup_create("x:s", "g", "0", mkstream=True))
    show("xadd", client.xadd("x:s", {"f": "v"}, id="1-1"))
    show("xreadgroup", client.xreadgroup("g", "c", {"x:s": ">"}, count=5, block=1000))
    show("xpending", client.xpending("x:s", "g"))
    show("xautoclaim", client.xautoclaim("x:s", "g", "d", 0))
    show("xack", client.xack("x:s", "g", "1-1"))


def connections(client):
    named = connect(db=3, client_name="worker", single_connection_client=True)
    named.set("only-here", 1)
    info = named.client_info()
    show("client", [named.client_getname(), info["name"], info["db"], info["resp"], client.exists("only-here")])
    show("id", named.client_id() == int(info["id"]))
    show("list", [line["name"] for line in client.client_list(client_id=[str(info["id"])])])
    show("kill", client.client_kill_filter(_id=info["id"]))
    # A server cuts the killed client off; the ambassador connects anew for it. Either way this goes on.
    outcome(named.ping)
    show("after the kill", [named.client_getname(), named.exists("only-here")])
    raw = client.connection_pool.get_connection("_")
    raw.send_command("CLIENT", "REPLY", "SKIP")
    raw.send_command("SET", "skipped", 1)
    raw.send_command("GET", "skipped")
    show("reply skip", raw.read_response())
    raw.send_command("CLIENT", "REPLY", "OFF")
    raw.send_command("SET", "skipped", 2)
    raw.send_command("CLIENT", "REPLY", "ON")
    show("reply on", [raw.read_response(), client.get("skipped")])
    raw.disconnect()
    hello = client.execute_command("HELLO")
    fields = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2]))
    show("hello", [(name, fields[name]) for name in ("server", "proto", "mode", "role", "modules")])
    show("no such", outcome(lambda: client.execute_command("HELLO", 9)))
    show("reset", named.execute_command("RESET"))


def tracking(client):
    tracked = connect(single_connection_client=True)
    show("on", tracked.execute_command("CLIENT", "TRACKING", "ON"))
    pushes = []
    tracked.connection._parser.set_invalidation_push_handler(lambda push: pushes.append(push) or push)
    client.set("c:a", "old")
    show("tracked", tracked.get("c:a"))
    client.set("c:a", "new")
    show("invalidated", reached(lambda: tracked.ping() and pushes))
    show("read again", tracked.get("c:a"))
    for options in (["BCAST", "PREFIX", "c:"], ["OPTIN"], ["OPTOUT", "NOLOOP"]):
        fresh = connect(single_connection_client=True)
        show("tracking", [options, fresh.execute_command("CLIENT", "TRACKING", "ON", *options)])
        info = fresh.execute_command("CLIENT", "TRACKINGINFO")
        show("tracking info", info)
        fresh.close()
    show("caching", outcome(lambda: client.execute_command("CLIENT", "CACHING", "YES")))


def redirected(client):
    """Invalidations of one connection arrive at another, the way of RESP2."""
    listener = connect(single_connection_client=True)
    number = listener.client_id()
    listener.connection.send_command("SUBSCRIBE", "__redis__:invalidate")
    show("listening", listener.connection.read_response())
    tracked = connect(single_connection_client=True)
    show("redirect", tracked.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", number))
    show("redirected", tracked.execute_command("CLIENT", "GETREDIR") == number)
    client.set("c:r", 1)
    tracked.get("c:r")
    client.set("c:r", 2)
    show("invalidation", listener.connection.read_response())
    unknown = outcome(lambda: client.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", 1 << 40))
    show("unknown", re.sub(r"\d+", "N", str(unknown)))


def main():
    global PREFIX
    for PREFIX in ("RESP2", "RESP3"):
        client = connect()
        client.flushall()
        steps = [basics, pipelines, messages, blocking, scans, scripts_and_streams, connections]
        for step in steps + [redirected if PREFIX == "RESP2" else tracking]:
            step(client)


main()
