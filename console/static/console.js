// What pages do beyond being read: charts, the live feed of a wallet, and proving a chain of hashes.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function asked(address) {
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

// -- charts

function axis(more) {
  return { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, ...more };
}

function line(label, name, more) {
  return { label, stroke: colour(name), width: 2, points: { show: false }, ...more };
}

// Days where it is about days, else times of the day.
function times(_, splits) {
  const text = (at) => new Date(at * 1000).toISOString(), step = splits[1] - splits[0];
  if (step >= 86400) return splits.map((at) => text(at).slice(0, 10));
  return splits.map((at) => (step < 1 ? text(at).slice(17, 23) : text(at).slice(11, step < 60 ? 19 : 16)));
}

function drawn(place, series, values, label) {
  const style = getComputedStyle(place);
  const size = () => ({ width: place.clientWidth - parseFloat(style.paddingLeft) * 2, height: place.clientHeight - (matchMedia("(max-width: 40rem)").matches ? 18 : 44) });
  const options = {
    ...size(), cursor: { y: false }, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    scales: { x: { time: true } }, series: [{ label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" }, ...series],
    axes: [axis({ values: times, space: 90 }), axis({ size: 84, values: (_, splits) => splits.map(label) })],
  };
  place.replaceChildren();
  const chart = new uPlot(options, values, place);
  new ResizeObserver(() => chart.setSize(size())).observe(place);
  return chart;
}

const CHARTS = {
  async rates(place) {
    let chart = null;
    const values = async () => {
      const samples = (await asked(place.dataset.src)).samples.map((one) => ({
        at: Date.parse(one.at) / 1000, decided: Number(one.decided), end: Number(one.input_end),
      }));
      const times = [], decided = [], sent = [];
      for (let i = 1; i < samples.length; i++) {
        const [before, now] = [samples[i - 1], samples[i]];
        const seconds = now.at - before.at;
        if (seconds <= 0) continue;
        times.push(now.at);
        decided.push(Math.max(0, (now.decided - before.decided) / seconds));
        sent.push(Math.max(0, (now.end - before.end) / seconds));
      }
      return [times, sent, decided];
    };
    const number = (value) => (value == null ? "" : Math.round(value).toLocaleString("en"));
    const draw = async () => {
      if (document.hidden) return;
      const now = await values();
      if (chart) chart.setData(now);
      else if (now[0].length > 1) {
        chart = drawn(place, [
          line("sent", "--link", { dash: [5, 4], value: (_, one) => number(one) }),
          line("decided", "--green", { fill: colour("--green") + "22", value: (_, one) => number(one) }),
        ], now, number);
      }
    };
    await draw();
    setInterval(() => draw().catch(() => {}), 2000);
  },

  async balance(place) {
    const { digits, currency, points } = await asked(place.dataset.src);
    if (!points.length) return void (place.textContent = "No entry in this time.");
    const money = (value) => (value == null ? "" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
    const stepped = uPlot.paths.stepped({ align: 1 });
    drawn(place, [line(currency, "--green", { paths: stepped, fill: colour("--green") + "22", points: { show: points.length < 60, size: 6 }, value: (_, one) => money(one) })],
      [points.map(([at]) => Date.parse(at) / 1000), points.map(([, one]) => Number(one) / 10 ** digits)],
      (one) => one.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 }));
  },
};

function chart(place) {
  CHARTS[place.dataset.chart](place).catch((error) => { place.textContent = `No chart: ${error.message}`; });
}

// -- proof

const hex = (bytes) => Array.from(new Uint8Array(bytes), (one) => one.toString(16).padStart(2, "0")).join("");
const bytesOfHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (two) => parseInt(two, 16));
const bytesOf = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
const SHOWN_STEPS = 200;

async function prove(button) {
  const told = document.getElementById("proven");
  const steps = Object.assign(document.createElement("ol"), { className: "steps", tabIndex: 0, ariaLabel: "Steps" });
  const verdict = document.createElement("p");
  verdict.className = "lead";
  told.replaceChildren(verdict, steps);
  button.disabled = true;
  try {
    let address = button.dataset.prove, previous = null, count = 0, first = null;
    while (address) {
      const page = await asked(address);
      if (previous !== null && page.previous_hash !== previous) throw new Error("the bytes of two pages do not follow each other");
      previous ??= page.previous_hash;
      first ??= page.from_sequence;
      for (const one of page.entries) {
        const before = bytesOfHex(previous), entry = bytesOf(one.entry), joined = new Uint8Array(before.length + entry.length);
        joined.set(before);
        joined.set(entry, before.length);
        const hash = hex(await crypto.subtle.digest("SHA-256", joined));
        if (hash !== one.hash) throw new Error(`entry ${one.sequence} does not follow: SHA-256 of its bytes is ${hash}, its hash is ${one.hash}`);
        previous = hash;
        count += 1;
        if (count <= SHOWN_STEPS) {
          const step = document.createElement("li");
          step.value = Number(one.sequence);
          step.append("sha256(hash before ‖ ", `${entry.length} bytes) = `, Object.assign(document.createElement("code"), { textContent: hash }));
          steps.append(step);
        }
      }
      verdict.textContent = `${count} entries follow each other so far …`;
      address = page.next ? `${button.dataset.prove}?${page.next}` : null;
    }
    verdict.textContent = count
      ? `Proved: ${count} entries from ${first} on follow each other${Number(first) > 1 ? ", from the newest sealed one" : ", from the first one"}.`
      : "There is nothing after the newest sealed entry.";
  } catch (error) {
    verdict.textContent = `Not proved: ${error.message}.`;
    verdict.classList.add("warn");
  } finally {
    button.disabled = false;
  }
}

// -- live

function follow(place) {
  let waiting = null;
  const feed = new EventSource(place.dataset.events);
  feed.addEventListener("entry", () => {
    waiting ??= setTimeout(() => { waiting = null; document.body.dispatchEvent(new CustomEvent("console:entry")); }, 400);
  });
  addEventListener("pagehide", () => feed.close());
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-chart]").forEach(chart);
  document.querySelectorAll("[data-events]").forEach(follow);
  document.querySelectorAll("[data-prove]").forEach((button) => {
    button.hidden = !globalThis.crypto?.subtle;
    button.addEventListener("click", () => prove(button));
  });
});
