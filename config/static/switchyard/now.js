"use strict";
// The overview's live numbers: from the socket, else by asking, and it says how old they are.
{
    const fresh = document.getElementById("fresh");
    const POLL_SECONDS = 4, STALE_SECONDS = 12, RECONNECT_SECONDS = 5;
    let last = Date.now(), source = "", socket = null, isStale = false;

    const age = (seconds) => {
        if (seconds < 10) return `${seconds.toFixed(1)} s`;
        const whole = Math.round(seconds);
        if (whole < 60) return `${whole} s`;
        if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
        if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
        return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
    };
    const put = (place, text) => { if (place && place.textContent !== text) place.textContent = text; };

    function show(now, from) {
        if (!now.queues) return;
        last = Date.now();
        source = from;
        for (const queue of now.queues) {
            const card = document.querySelector(`[data-queue="${queue.name}"]`);
            if (!card) continue;
            put(card.querySelector("[data-value=depth]"), queue.depth.toLocaleString("en"));
            put(card.querySelector("[data-value=running]"), String(queue.running));
            const oldest = queue.oldest_age_seconds;
            put(card.querySelector("[data-value=oldest]"), oldest === null ? "nothing due" : `oldest ${age(oldest)}`);
        }
        tell();
    }

    function tell() {
        const passed = (Date.now() - last) / 1000;
        isStale = passed > STALE_SECONDS;
        const at = new Date(last).toISOString().slice(11, 19);
        const said = isStale ? `Stale since ${at}` : source === "socket" ? "Live" : source ? "Polling" : "Connecting";
        put(fresh, said);
        fresh.classList.toggle("bad", isStale);
        fresh.title = `Last update ${at} UTC`;
    }

    function connect() {
        const scheme = location.protocol === "https:" ? "wss:" : "ws:";
        socket = new WebSocket(`${scheme}//${location.host}${fresh.dataset.feed}`);
        socket.onmessage = (event) => show(JSON.parse(event.data), "socket");
        socket.onclose = () => setTimeout(connect, RECONNECT_SECONDS * 1000);
    }

    async function poll() {
        if (socket?.readyState !== WebSocket.OPEN && !document.hidden) {
            const response = await fetch(fresh.dataset.now).catch(() => null);
            if (response?.ok && !response.redirected) show(await response.json(), "polling");
        }
        setTimeout(poll, POLL_SECONDS * 1000);
    }

    if (fresh) {
        connect();
        setTimeout(poll, 1000);
        setInterval(tell, 1000);
    }
}
