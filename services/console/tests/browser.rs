//! The control room in a real browser. Needs Chromium; `cargo xtask test` installs it and runs this.
#![expect(clippy::unwrap_used, reason = "a test says what it met")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use shoal_console::Config;
use support::chromium::Page;
use support::fleet::{cycle, morning};
use support::{Stage, World, stage};

/// Plays one cycle a second, as the gateway does at speed 1.
fn play(stage: &Stage) {
    let (cycles, stop) = (stage.world.cycles.clone(), stage.stop.clone());
    tokio::spawn(async move {
        for seconds in 0.. {
            let _ = cycles.send(cycle(seconds));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    });
}

fn keep(name: &str, picture: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("control-room");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), picture).unwrap();
}

async fn shown(page: &mut Page, address: std::net::SocketAddr) {
    page.go(&format!("http://{address}/")).await;
    page.until("document.documentElement?.dataset.ready === 'true'")
        .await;
}

/// Requests to anybody but `host`, and everything the browser complained about.
fn complaints(page: &Page, host: &str) -> Vec<String> {
    let urls = page.seen("Network.requestWillBeSent");
    let foreign = urls
        .iter()
        .map(|e| e["request"]["url"].as_str().unwrap_or_default().to_owned());
    let own = format!("http://{host}/");
    let mut found: Vec<String> = foreign
        .filter(|url| !url.starts_with(&own) && url != "about:blank")
        .collect();
    let spoken = |e: &Value| e["type"] == "error" || e["type"] == "warning";
    found.extend(
        page.seen("Runtime.consoleAPICalled")
            .iter()
            .filter(|e| spoken(e))
            .map(ToString::to_string),
    );
    found.extend(
        page.seen("Runtime.exceptionThrown")
            .iter()
            .map(ToString::to_string),
    );
    found.extend(page.seen("Log.entryAdded").iter().map(ToString::to_string));
    found
}

const SCROLLS: &str = "document.documentElement.scrollHeight > innerHeight || document.documentElement.scrollWidth > innerWidth";

/// Elements whose own text has less than 4.5:1 against what is behind it (WCAG 2.2, 1.4.3).
const PALE: &str = r"(() => {
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m[3] ?? 1 }; };
  const light = ({ r, g, b }) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const over = (top, below) => ({ r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1 });
  const behind = (e) => { const layers = []; for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 }); };
  const seen = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const pale = seen.filter((e) => { const back = behind(e); const a = light(over(parse(getComputedStyle(e).color), back)); const b = light(back);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; });
  return { seen: seen.length, pale: [...new Set(pale.map((e) => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}`))] };
})()";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; run by `cargo xtask test`"]
async fn the_control_room_is_live_on_one_screen_light_and_dark() {
    let stage = stage(morning(), 1.0, Config::default(), false).await;
    play(&stage);
    let mut page = Page::open(1440, 900).await;
    page.prefers("light").await;
    shown(&mut page, stage.address).await;
    page.until("document.querySelectorAll('#rows tr').length > 3 && document.querySelectorAll('canvas').length === 3").await;

    let text = page.eval("document.body.innerText").await.to_string();
    for expected in [
        "Hz",
        "charging",
        "aFRR up",
        "short 0.02",
        "Day-ahead, Mon 12:00",
        "optimal",
        "does not follow its set-point",
        "cannot be full in time",
        "✓ won",
        "230",
    ] {
        assert!(
            text.contains(expected),
            "{expected:?} is not on the page: {text}"
        );
    }
    let before = page
        .eval("document.querySelector('#tile-frequency .value').textContent")
        .await;
    page.until(&format!(
        "document.querySelector('#tile-frequency .value').textContent !== {before}"
    ))
    .await;
    assert_eq!(page.eval(SCROLLS).await, json!(false));

    let light = page.picture().await;
    keep("light-1440.png", &light);
    assert_eq!(page.eval(&format!("{PALE}.pale")).await, json!([]));
    page.prefers("dark").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let dark = page.picture().await;
    keep("dark-1440.png", &dark);
    assert_eq!(page.eval(&format!("{PALE}.pale")).await, json!([]));
    assert!(page.eval(&format!("{PALE}.seen")).await.as_u64().unwrap() > 50);
    assert_ne!(light, dark);

    page.size(1280, 800).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(page.eval(SCROLLS).await, json!(false));
    keep("dark-1280.png", &page.picture().await);
    assert_eq!(
        complaints(&page, &stage.address.to_string()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; run by `cargo xtask test`"]
async fn an_operator_sees_the_effect_before_the_command_and_filters_by_keyboard() {
    let stage = stage(morning(), 1.0, Config::default(), false).await;
    play(&stage);
    let mut page = Page::open(1440, 900).await;
    shown(&mut page, stage.address).await;
    page.eval("document.querySelector('[data-kind=kill]').click()")
        .await;
    page.until("document.querySelector('#effect').innerText.includes('Capacity payment at risk')")
        .await;
    keep("kill-switch.png", &page.picture().await);
    assert!(stage.world.commands.lock().unwrap().is_empty());
    let fill = "document.querySelector('#command-by').value = 'Ann'; document.querySelector('#command-reason').value = 'smoke in hall 2'; document.querySelector('#command-send').click()";
    page.eval(fill).await;
    page.until("document.querySelector('#outcome').textContent.includes('killed')")
        .await;
    let commands = stage.world.commands.lock().unwrap().clone();
    assert_eq!(
        (commands[0].by.as_str(), commands[0].reason.as_str()),
        ("Ann", "smoke in hall 2")
    );
    assert!(commands[0].expires_at_micros.is_some());

    let key = |k: &str| {
        format!(
            "document.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{k}', bubbles: true }}))"
        )
    };
    let key = |k: &str| key(k).replace("document.dispatch", "document.body.dispatch");
    page.eval(&key("a")).await;
    page.until("document.querySelectorAll('#rows tr').length === 230")
        .await;
    page.eval(&key("/")).await;
    assert_eq!(
        page.eval("document.activeElement.id").await,
        json!("search")
    );
    page.eval("search = document.querySelector('#search'); search.value = 'depot'; search.dispatchEvent(new Event('input'))").await;
    page.until("document.querySelectorAll('#rows tr').length === 30")
        .await;
    keep("depot.png", &page.picture().await);
    assert_eq!(page.eval(SCROLLS).await, json!(false));
    page.eval("document.activeElement.blur()").await;
    page.eval(&key("?")).await;
    assert_eq!(
        page.eval("document.querySelector('#keys').open").await,
        json!(true)
    );
    assert_eq!(
        complaints(&page, &stage.address.to_string()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; run by `cargo xtask test`"]
async fn what_did_not_arrive_is_hatched_and_never_zero() {
    let stage = stage(World::default(), 1.0, Config::default(), true).await;
    let mut page = Page::open(1440, 900).await;
    shown(&mut page, stage.address).await;
    for tile in ["frequency", "gate", "reserve", "pool"] {
        let hatched = format!(
            "getComputedStyle(document.querySelector('#tile-{tile} .missing')).backgroundImage.includes('gradient')"
        );
        assert_eq!(page.eval(&hatched).await, json!(true), "{tile}");
        let digits = format!("/\\d/.test(document.querySelector('#tile-{tile}').textContent)");
        assert_eq!(
            page.eval(&digits).await,
            json!(false),
            "{tile} shows a number"
        );
    }
    keep("nothing.png", &page.picture().await);
    assert_eq!(page.eval(SCROLLS).await, json!(false));
    assert_eq!(
        complaints(&page, &stage.address.to_string()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; run by `cargo xtask test`"]
async fn a_service_that_goes_away_is_an_alarm_and_its_values_are_hatched_with_since_when() {
    let stage = stage(morning(), 60.0, Config::default(), false).await;
    let mut page = Page::open(1440, 900).await;
    shown(&mut page, stage.address).await;
    page.until("document.querySelector('#tile-pool .value').textContent.includes('kW')")
        .await;
    stage.services.cancel();
    page.until("document.querySelector('#tile-pool .missing')?.textContent.includes('since')")
        .await;
    page.until(
        "document.querySelector('#tile-alarms').textContent.includes('dispatch does not answer')",
    )
    .await;
    assert_eq!(
        page.eval("document.querySelectorAll('#sources .away').length === 5")
            .await,
        json!(true)
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    keep("away.png", &page.picture().await);
}
