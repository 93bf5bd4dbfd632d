"""The three status pages in a real Chromium: one design, nothing from outside, readable on a phone, light and dark, usable
by keyboard, named for a screen reader (and without anything that axe-core finds wrong), and live without a reload.
Screenshots go to FOLDER.

Usage: browser.py BINARIES FOLDER"""

import contextlib
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

import axe_core_python
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

# Generous: the machine may be busy with everything else.
PATIENCE = 60
PHONE, DESK = (360, 740), (1200, 900)
AXE = (pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text()


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


class Subject:
    """A running binary, its page, and a way to change what the page shows."""

    def __init__(self, name, command, port, change):
        self.name, self.url, self.change = name, f"http://127.0.0.1:{port}/", change
        self.pictures, self.more = name, None
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def gitsync(binaries, work):
    source, port = work / "site", free_port()
    source.mkdir()
    git(source, "init", "--quiet")
    git(source, "commit", "--quiet", "--allow-empty", "--message", "first")
    command = [binaries / "gitsync", f"--repo=file://{source}", "--ref=main", f"--root={work / 'root'}", "--link=site", "--period=1s",
               f"--http-bind=127.0.0.1:{port}"]
    return Subject("gitsync", command, port,
                   lambda: git(source, "commit", "--quiet", "--allow-empty", "--message", "changed"))


def steered(binaries, work, *more):
    """gitsync with buttons; what they do is seen in the folder itself."""
    work = work / f"steered{len(more)}"
    source, port, token = work / "site", free_port(), work / "token"
    source.mkdir(parents=True)
    token.write_text("t0ken\n")
    git(source, "init", "--quiet")
    git(source, "commit", "--quiet", "--allow-empty", "--message", "first")
    command = [binaries / "gitsync", f"--repo=file://{source}", "--ref=main", f"--root={work / 'root'}", "--link=site", "--period=1h",
               "--keep=3", f"--http-bind=127.0.0.1:{port}", f"--api-token-file={token}", *more]
    subject = Subject("gitsync", command, port, lambda: None)
    subject.source, subject.link = source, work / "root" / "site"
    return subject


def press(driver, subject):
    """Each button works with the token and without it does nothing."""
    head = lambda: subprocess.run(["git", "rev-parse", "HEAD"], cwd=subject.source, check=True, capture_output=True, text=True).stdout.strip()
    shown = lambda: subject.link.resolve().name
    said = lambda: driver.find_element(By.ID, "said").text
    field = lambda: driver.find_element(By.ID, "token")

    def button(label, status):
        driver.execute_script("document.getElementById('said').textContent = ''")
        next(one for one in driver.find_elements(By.CSS_SELECTOR, "[data-call]") if one.text == label).click()
        wait(driver, f"{label}: {status}, not {said()}", lambda: said().startswith(status))

    first = head()
    git(subject.source, "commit", "--quiet", "--allow-empty", "--message", "second")
    second = head()
    labels = [one.text for one in driver.find_elements(By.CSS_SELECTOR, "[data-call]")]
    demand(labels == ["Sync now", "Roll back", "Pin", "Unpin"], f"buttons: {labels}")
    for wrong in ("", "wrong"):
        field().clear()
        field().send_keys(wrong)
        for label in labels:
            button(label, "401")
    demand(shown() == first, "a button without the token did something")
    field().clear()
    field().send_keys("t0ken")
    main = lambda: driver.execute_script("return document.querySelector('main').innerText")
    for label, status, there in (("Sync now", "200", second), ("Roll back", "200", first), ("Pin", "200", first), ("Unpin", "200", second)):
        button(label, status)
        demand(shown() == there, f"after {label}: {shown()} instead of {there}")
        wait(driver, f"{label}: the page follows", lambda: there in main())
    demand("t0ken" not in driver.page_source and "t0ken" not in driver.current_url, "the token is kept in the page")
    # The browser notes each refusal, as it should.
    driver.get_log("browser")


def apart(driver, binaries, work):
    """With an address of its own for calls, the page has no buttons, and its own address takes no calls: it shows the page."""
    calls = free_port()
    subject = steered(binaries, work, f"--webhook-listen=127.0.0.1:{calls}")
    try:
        wait(driver, "gitsync does not answer", lambda: answers(subject.url))
        driver.get(subject.url)
        demand(not driver.find_elements(By.CSS_SELECTOR, "[data-call]"), "buttons that lead nowhere")
        post = "const [url, done] = arguments; fetch(url, {method: 'POST', headers: {Authorization: 'Bearer t0ken'}})" \
               ".then(answer => done(answer.status), () => done('refused'))"
        first = subject.link.resolve()
        git(subject.source, "commit", "--quiet", "--allow-empty", "--message", "second")
        for path in ("sync?wait", "pin", "rollback"):
            driver.execute_async_script(post, subject.url + path)
        demand(subject.link.resolve() == first, "the page's own address takes calls")
        elsewhere = urllib.request.Request(f"http://127.0.0.1:{calls}/sync?wait", method="POST", headers={"Authorization": "Bearer t0ken"})
        with urllib.request.urlopen(elsewhere, timeout=PATIENCE) as answer:
            demand(answer.status == 200, f"sync on the address for it: {answer.status}")
        demand(subject.link.resolve() != first, "the address for calls takes none")
    finally:
        subject.stop()
    driver.get("about:blank")
    driver.get_log("browser")


def steering(driver, binaries, work):
    subject = steered(binaries, work)
    try:
        wait(driver, "gitsync does not answer", lambda: answers(subject.url))
        driver.get(subject.url)
        press(driver, subject)
    finally:
        subject.stop()
    driver.get("about:blank")
    driver.get_log("browser")
    apart(driver, binaries, work)
    print("gitsync: buttons work with the token only, and are not there with an address of its own for calls", flush=True)


def redis_ambassador(binaries, work):
    port, server, clients = free_port(), free_port(), free_port()
    store = []

    def change():
        store.append(subprocess.Popen(["redis-server", "--port", str(server), "--bind", "127.0.0.1", "--save", "", "--dir", work],
                                      stdout=subprocess.DEVNULL))

    command = [binaries / "redis-ambassador", f"--listen=127.0.0.1:{clients}", f"--primary=127.0.0.1:{server}",
               f"--admin-listen=127.0.0.1:{port}"]
    subject = Subject("redis-ambassador", command, port, change)
    stop = subject.stop
    subject.stop = lambda: [stop(), *[(s.terminate(), s.wait()) for s in store]]
    return subject


def metrics_adapter(binaries, work):
    port, lines = free_port(), free_port(socket.SOCK_DGRAM)

    def change():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for at in range(500):
                sender.sendto(f"orders.of.kind.{at % 40}:1|c".encode(), ("127.0.0.1", lines))

    command = [binaries / "metrics-adapter", "statsd", f"--web.listen-address=127.0.0.1:{port}",
               f"--statsd.listen-udp=127.0.0.1:{lines}", "--statsd.listen-tcp=", "--web.enable-lifecycle"]
    subject = Subject("metrics-adapter", command, port, change)
    subject.more = lambda driver, subject: unmapped(driver, binaries, work)
    return subject


def unmapped(driver, binaries, work):
    """Names without a mapping: found by the search box, each with a rule that does what it promises when it is pasted."""
    main = lambda: driver.execute_script("return document.querySelector('main').innerText")
    rule = lambda: driver.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
        ".filter(cells => cells[0] === 'orders.of.kind.7').map(cells => cells[2])[0] || ''")
    wait(driver, "a name without a mapping", lambda: "- match:" in rule())
    mapping = work / "pasted.yml"
    mapping.write_text(f"mappings:\n{rule()}\n")
    explained = subprocess.run([binaries / "metrics-adapter", "statsd", "explain", "orders.of.kind.12:3|c",
                                f"--statsd.mapping-config={mapping}"], capture_output=True, text=True)
    demand(explained.returncode == 0 and 'orders_of_kind{kind_id="12"} 3' in explained.stdout,
           f"the pasted rule: {rule()!r} gives {explained.stdout}{explained.stderr}")
    names = lambda: driver.execute_script("return [...document.querySelectorAll('svg')].map(svg => svg.getAttribute('aria-label'))")
    wait(driver, "charts of busy families", lambda: any("orders_of_kind_" in name for name in names()))
    demand(any(name.startswith("lines") for name in names()), f"charts: {names()}")
    # The page was short when it was asked for; the box comes with what there is to search.
    field = driver.find_element(By.ID, "find")
    wait(driver, "the search box", field.is_displayed)
    field.send_keys("orders.of.kind.31")
    wait(driver, "one name found", lambda: "orders.of.kind.31" in main() and "orders.of.kind.7\n" not in main() and "orders.of.kind.30" not in main())
    field.clear()
    field.send_keys("x", Keys.BACKSPACE)
    wait(driver, "all names again", lambda: "orders.of.kind.30" in main())


def many_sources(binaries, work):
    """The run mode: a source that grows, one that cannot be reached, and one that disagrees with the first."""
    port, closed, folder = free_port(), free_port(), work / "many"
    folder.mkdir()
    page = lambda count: "".join(f'orders_total{{kind="{at}"}} {at}\n' for at in range(count))
    (folder / "orders.prom").write_text(page(5))
    (folder / "other.prom").write_text('orders_total{kind="1"} 99\nstock 7\n')
    (folder / "adapter.yaml").write_text(f"""
interval: 300ms
sources:
- {{name: shop, type: file, path: orders.prom}}
- {{name: twin, type: file, path: other.prom}}
- {{name: gone, type: redis, address: '127.0.0.1:{closed}'}}
""")

    def change():
        new = folder / "new"
        new.write_text(page(60))
        new.rename(folder / "orders.prom")
        # Disagreements are found by pages.
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()

    command = [binaries / "metrics-adapter", "run", f"--web.listen-address=127.0.0.1:{port}", folder / "adapter.yaml"]
    subject = Subject("metrics-adapter", command, port, change)
    subject.pictures, subject.more = "metrics-adapter-run", sources
    return subject


def sources(driver, subject):
    """State, last error, duration and series of every source, charts, and the search over all samples."""
    rows = lambda: {row[0]: row for row in driver.execute_script(
        "return [...document.querySelectorAll('table')[0].querySelectorAll('tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))")}
    wait(driver, "the series of the source that grew", lambda: "60" in rows()["shop"])
    demand("up" in rows()["shop"] and any(cell.endswith(" ms") for cell in rows()["shop"]), f"shop: {rows()['shop']}")
    demand("down" in rows()["gone"] and "cannot connect" in rows()["gone"][-1], f"gone: {rows()['gone']}")
    main = lambda: driver.execute_script("return document.querySelector('main').innerText")
    wait(driver, "the disagreement", lambda: 'orders_total{kind="1"}' in main() and "earlier source" in main())
    charts = driver.execute_script("return [...document.querySelectorAll('svg')].map(svg => svg.getAttribute('aria-label'))")
    demand(any("shop: duration" in name for name in charts) and any("shop: series" in name for name in charts), f"charts: {charts}")
    field = driver.find_element(By.ID, "find")
    field.send_keys('kind="42"')
    wait(driver, "one sample found", lambda: 'orders_total{kind="42"}' in main() and 'orders_total{kind="7"}' not in main())
    # What is searched for stays while the page goes on.
    driver.execute_script("window.texts = new Set()")
    wait(driver, "the page lives", lambda: driver.execute_script(
        "return window.texts.add(document.querySelector('main').innerHTML).size") > 2)
    demand('orders_total{kind="7"}' not in main(), "an update undoes the search")
    field.clear()
    field.send_keys("x", Keys.BACKSPACE)
    wait(driver, "everything again", lambda: 'orders_total{kind="7"}' in main())


def wait(driver, what, condition):
    WebDriverWait(driver, PATIENCE, poll_frequency=0.2).until(lambda _: condition(), message=what)


def answers(url):
    """Whether the page is there; gitsync's says 503 until the first commit is published, as git-sync's does."""
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    return False


def demand(truth, what):
    if not truth:
        sys.exit(f"error: {what}")


def browser():
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")))


def emulate(driver, size, scheme):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def brightness(driver):
    colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[colour.index("(") + 1:-1].split(",")[:3])


@contextlib.contextmanager
def still(driver):
    """The page as it is now: what is looked at piece by piece must not be replaced meanwhile."""
    driver.execute_script("window.follow = source.onmessage; source.onmessage = null")
    yield
    driver.execute_script("source.onmessage = window.follow")


def look(driver, subject, folder):
    """Phone and desk, light and dark: nothing runs out of the window, and the schemes differ."""
    seen = {}
    for size_name, size in (("phone", PHONE), ("desk", DESK)):
        for scheme in ("light", "dark"):
            emulate(driver, size, scheme)
            wide = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            demand(wide <= 0, f"{subject.name}: the page is {wide} px too wide for a {size_name}")
            seen[scheme] = brightness(driver)
            accessible(driver, f"{subject.name}, {size_name}, {scheme}")
            driver.execute_script("scrollTo(0, 0)")
            driver.save_screenshot(str(folder / f"{subject.pictures}-{size_name}-{scheme}.png"))
    demand(seen["light"] > 600 > 200 > seen["dark"], f"{subject.name}: light and dark do not differ: {seen}")


def axe(driver):
    """What axe-core finds wrong: WCAG 2.1 A and AA, and its best practices."""
    driver.execute_script(AXE)
    found = driver.execute_async_script("const done = arguments[0]; axe.run().then(done, error => done({error: String(error)}))")
    demand("violations" in found and found["passes"], f"axe-core did not run: {found.get('error')}")
    return [f"{rule['id']} ({rule['help']}): {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]


def accessible(driver, where):
    problems = axe(driver)
    demand(not problems, f"{where}: axe-core finds: " + "\n  ".join(problems))


def axe_can_fail(driver):
    """A page with a picture without a name and pale text: the check itself must be able to fail."""
    driver.get("data:text/html,<!doctype html><title>x</title><img src=''><p style='color:%23eee;background:%23fff'>pale")
    found = " ".join(axe(driver))
    demand(all(rule in found for rule in ("image-alt", "color-contrast", "html-has-lang")), f"axe-core misses mistakes: {found}")
    driver.get("about:blank")
    driver.get_log("browser")


def structure(driver, subject):
    """What a screen reader goes by."""
    find = lambda selector: driver.find_elements(By.CSS_SELECTOR, selector)
    demand(driver.execute_script("return document.documentElement.lang") == "en", f"{subject.name}: no language")
    demand(subject.name in driver.title, f"{subject.name}: the title is '{driver.title}'")
    demand(len(find("h1")) == 1 and len(find("main")) == 1, f"{subject.name}: not one h1 and one main")
    demand(find("[role=status]"), f"{subject.name}: changes of the connection are not announced")
    demand(all(cell.get_attribute("scope") for cell in find("th")), f"{subject.name}: a column heading without scope")
    demand(all(chart.get_attribute("aria-label") for chart in find("svg")), f"{subject.name}: a chart without a name")
    demand(all(field.get_attribute("aria-label") for field in find("input")), f"{subject.name}: a field without a name")
    # By keyboard alone: Tab reaches each link and field.
    reachable = len(find("a[href], input:not([hidden] *), button, [tabindex]"))
    focused = set()
    body = driver.find_element(By.TAG_NAME, "body")
    for _ in range(reachable + 2):
        driver.switch_to.active_element.send_keys(Keys.TAB) if focused else body.send_keys(Keys.TAB)
        focused.add(driver.switch_to.active_element.get_attribute("outerHTML"))
    demand(len(focused - {body.get_attribute("outerHTML")}) >= reachable, f"{subject.name}: Tab does not reach everything")


def keeps_place(driver, subject):
    """An update takes neither the focus nor the place in a wide table away from who reads it."""
    emulate(driver, (200, 740), "light")
    place = "const at = document.querySelector('main section[tabindex]'); "
    driver.execute_script(place + "at.focus(); at.scrollLeft = 9; at.old = true")
    before = driver.execute_script(place + "return at.scrollLeft")
    driver.execute_script("source.onmessage({data: document.querySelector('main').innerHTML})")
    after, renewed, focused = driver.execute_script(place + "return [at.scrollLeft, !at.old, at === document.activeElement]")
    demand(renewed, f"{subject.name}: the content was not replaced")
    demand(focused, f"{subject.name}: an update takes the focus away")
    demand(before == after, f"{subject.name}: an update scrolls a table from {before} to {after}")


def only_itself(driver, subject):
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    outside = [url for url in loaded if not url.startswith((subject.url, "data:"))]
    demand(not outside, f"{subject.name}: asks elsewhere: {outside}")
    wrong = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    demand(not wrong, f"{subject.name}: the browser complains: {wrong}")


def live(driver, subject):
    """The content follows what happens, and the document is the same one all the time."""
    main = lambda: driver.execute_script("return document.querySelector('main').innerText")
    driver.execute_script("window.sameDocument = true")
    before = main()
    subject.change()
    wait(driver, f"{subject.name}: the page does not follow", lambda: main() != before)
    demand(driver.execute_script("return window.sameDocument === true"), f"{subject.name}: the page reloaded itself")


class OtherSite(http.server.BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_):
        pass


def cross_site(driver, subject):
    """A page of another origin can neither read anything nor make the browser change anything."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherSite) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        # Another name, so that it is another site and not only another port.
        driver.get(f"http://localhost:{other.server_port}/")
        read = driver.execute_async_script(
            "const [url, done] = arguments; fetch(url).then(() => done('read'), () => done('refused'))", subject.url)
        demand(read == "refused", f"{subject.name}: another site could read the page")
        for path in ("-/quit", "-/reload", "sync", "rollback", "pin"):
            driver.execute_async_script(
                "const [url, done] = arguments; fetch(url, {method: 'POST', mode: 'no-cors'}).then(() => done(), () => done())",
                subject.url + path)
        framed = driver.execute_async_script(
            "const [url, done] = arguments; const frame = document.createElement('iframe'); frame.src = url;"
            "frame.onload = () => { try { done(frame.contentDocument === null ? 'opaque' : 'readable') } catch { done('opaque') } };"
            "document.body.append(frame)", subject.url)
        demand(framed == "opaque", f"{subject.name}: another site could look into a frame")
        other.shutdown()
    demand(subject.process.poll() is None and answers(subject.url), f"{subject.name}: another site ended the process")
    driver.get_log("browser")


def design(driver):
    return driver.execute_script("return document.querySelector('style').textContent")


def check(driver, subject, folder):
    try:
        wait(driver, f"{subject.name} does not answer", lambda: answers(subject.url))
        emulate(driver, DESK, "light")
        driver.get(subject.url)
        live(driver, subject)
        with still(driver):
            structure(driver, subject)
        if subject.more:
            subject.more(driver, subject)
        keeps_place(driver, subject)
        with still(driver):
            look(driver, subject, folder)
        only_itself(driver, subject)
        style = design(driver)
        cross_site(driver, subject)
        driver.get(subject.url)
    finally:
        subject.stop()
    wait(driver, f"{subject.name}: the page does not say that the process is gone",
         lambda: driver.find_element(By.ID, "live").text != "live")
    driver.get("about:blank")
    # What it says of the process that is gone is not about the next one.
    driver.get_log("browser")
    print(f"{subject.name}: live, self-contained, phone and desk, light and dark, keyboard and names, axe-core, closed to other sites", flush=True)
    return style


def main(binaries, folder):
    folder.mkdir(parents=True, exist_ok=True)
    driver = browser()
    try:
        axe_can_fail(driver)
        with tempfile.TemporaryDirectory() as work:
            subjects = (make(binaries, pathlib.Path(work)) for make in (gitsync, redis_ambassador, metrics_adapter, many_sources))
            styles = {check(driver, subject, folder) for subject in subjects}
            steering(driver, binaries, pathlib.Path(work))
    finally:
        driver.quit()
    demand(len(styles) == 1, "the pages are not one design")


main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]))
