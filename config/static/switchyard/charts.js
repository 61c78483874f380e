"use strict";
// Three charts from the rollups. A canvas knows no CSS variables, so colours are read from the page and read again
// when its theme changes.
{
    const card = document.querySelector("[data-charts]");
    const REDRAW_SECONDS = 30;
    const probe = document.createElement("span");
    let drawn = [], data = null;

    const colour = (name) => {
        probe.style.color = `var(--${name})`;
        return getComputedStyle(probe).color;
    };
    const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
    const clock = (seconds) => {
        const at = new Date(seconds * 1000);
        return data.step >= 7200 ? day.format(at) : at.toISOString().slice(11, 16);
    };
    const wait = (seconds) => (seconds >= 60 ? `${Math.round(seconds / 60)} min` : seconds >= 1 ? `${Math.round(seconds)} s` : `${Math.round(seconds * 1000)} ms`);
    const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
    const font = "11.5px Plex Sans, system-ui, sans-serif";

    const axes = (values) => [
        { stroke: colour("ink-3"), font, grid: { show: false }, ticks: { show: false }, values: (_, at) => at.map(clock), size: 24, space: 70 },
        { stroke: colour("ink-3"), font, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, values, size: 46, gap: 6 },
    ];
    const shared = (name, height, extra) => ({
        width: document.getElementById(`chart-${name}`).clientWidth, height, legend: { show: false }, padding: [8, 18, 0, 0],
        cursor: { sync: { key: "overview" }, points: { show: false }, drag: { x: false, y: false } }, ...extra,
    });
    const bars = (name) => ({ fill: colour(name), stroke: colour(name), width: 0, paths: uPlot.paths.bars({ size: [0.82, 40], align: 1 }), points: { show: false } });
    const whole = { y: { range: (_, low, high) => [0, Math.max(high * 1.06, 4)] } };
    const compact = (_, numbers) => numbers.map((number) => (Number.isInteger(number) ? number.toLocaleString("en") : ""));

    function perMinute(numbers) {
        return numbers.map((number) => number / (data.step / 60));
    }

    // What the card is taller than its contents, because its neighbours are, goes to its charts.
    function spare() {
        const section = card.querySelector(".charts"), bottom = (element) => element.getBoundingClientRect().bottom;
        return Math.max(0, bottom(section) - bottom(section.lastElementChild) - parseFloat(getComputedStyle(section).paddingBottom) - 1);
    }

    function throughput(more) {
        const failed = perMinute(data.failed), retried = perMinute(data.retried), succeeded = perMinute(data.succeeded);
        const two = failed.map((number, index) => number + retried[index]);
        const three = two.map((number, index) => number + succeeded[index]);
        // The tallest first: each covers the lower part of the one before.
        const series = [{}, bars("chart-success"), bars("chart-retry"), bars("chart-failure")];
        return [shared("throughput", 190 + 0.6 * more, { series, axes: axes(compact), scales: whole }), [data.at, three, two, failed]];
    }

    // A line needs two points; what has just begun is shown all the same.
    const few = (values) => values.filter((value) => value !== null).length < 4;
    const WAITS = [0.01, 0.1, 1, 10, 60, 600, 3600];
    function waits(more) {
        const line = (name) => ({ stroke: colour(`chart-${name}`), width: 2, spanGaps: true, points: { show: few(data.wait_p95[name]), size: 5 } });
        const names = ["low", "default", "high"];
        const scales = { y: { distr: 3, range: (_, low, high) => [Math.min(low || 0.1, 0.1), WAITS.find((mark) => mark >= Math.max(high || 1, 10)) ?? high] } };
        const marks = axes((_, numbers) => numbers.map(wait));
        marks[1].splits = () => WAITS;
        marks[1].filter = (_, splits) => splits;
        return [shared("wait", 160 + 0.4 * more, { series: [{}, ...names.map(line)], axes: marks, scales }), [data.at, ...names.map((name) => data.wait_p95[name])]];
    }

    function letters() {
        return [shared("letters", 92, { series: [{}, bars("chart-failure")], axes: axes(compact), scales: whole }), [data.at, data.dead_lettered]];
    }

    function describe() {
        const tell = (name, text) => {
            card.querySelector(`[data-text=${name}]`).textContent = text;
            document.getElementById(`chart-${name}`).setAttribute("aria-label", text);
        };
        const total = sum(data.succeeded) + sum(data.failed);
        tell("throughput", `${sum(data.succeeded).toLocaleString("en")} succeeded, ${sum(data.retried).toLocaleString("en")} attempts were retried, ${sum(data.failed).toLocaleString("en")} failed for good.`);
        const worst = Object.entries(data.wait_p95).map(([name, values]) => [name, Math.max(...values.filter((value) => value !== null), 0)]).sort((a, b) => b[1] - a[1])[0];
        tell("wait", total && worst[1] ? `Longest on ${worst[0]}: ${wait(worst[1])}.` : "Nothing has waited yet.");
        const dead = sum(data.dead_lettered);
        tell("letters", dead ? `${dead.toLocaleString("en")} new in this range.` : "None in this range.");
    }

    function draw() {
        if (!data) return;
        card.append(probe);
        drawn.forEach((chart) => chart.destroy());
        describe();
        const more = spare();
        drawn = Object.entries({ throughput: throughput(more), wait: waits(more), letters: letters() }).map(
            ([name, [options, numbers]]) => new uPlot(options, numbers, document.getElementById(`chart-${name}`)));
        probe.remove();
        card.dataset.drawn = data.at.at(-1);
    }

    async function load() {
        const response = document.hidden ? null : await fetch(card.dataset.charts).catch(() => null);
        if (response?.ok && !response.redirected) {
            data = await response.json();
            draw();
        }
        setTimeout(load, REDRAW_SECONDS * 1000);
    }

    if (card) {
        document.fonts.ready.then(load);
        new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
        let width = card.clientWidth;
        new ResizeObserver(() => { if (card.clientWidth !== width) { width = card.clientWidth; draw(); } }).observe(card);
    }
}
