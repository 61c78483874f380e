"use strict";
// Menus that close, values that can be copied, and parts of a page that renew themselves.
{
    const menus = () => document.querySelectorAll("details.filter[open], details.user-menu[open], details.popover[open]");
    const closeMenus = (except) => menus().forEach((menu) => { if (!menu.contains(except)) menu.open = false; });
    document.addEventListener("click", (event) => closeMenus(event.target));
    document.addEventListener("keydown", (event) => {
        if (event.key !== "Escape") return;
        const open = menus()[0];
        closeMenus(null);
        open?.querySelector("summary").focus();
    });

    document.addEventListener("click", async (event) => {
        const button = event.target.closest("[data-copy]");
        if (!button) return;
        const text = document.getElementById(button.dataset.copy).innerText;
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });

    // The stock widget for date and time labels neither of its two inputs for those who cannot see them.
    document.querySelectorAll(".vDateField:not([aria-label])").forEach((input) => input.setAttribute("aria-label", "Date"));
    document.querySelectorAll(".vTimeField:not([aria-label])").forEach((input) => input.setAttribute("aria-label", "Time"));

    // What a person is filling in or has opened stays as it is.
    const KEPT = "input, textarea, select, canvas, .keep";

    function renew(old, fresh) {
        if (old.isEqualNode(fresh)) return;
        if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
            old.replaceWith(fresh);
            return;
        }
        if (old.nodeType !== Node.ELEMENT_NODE) {
            old.data = fresh.data;
            return;
        }
        if (old.matches(KEPT)) return;
        for (const { name, value } of fresh.attributes) {
            if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
        }
        for (const { name } of [...old.attributes]) {
            if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
        }
        const before = [...old.childNodes], after = [...fresh.childNodes];
        after.forEach((node, index) => (before[index] ? renew(before[index], node) : old.append(node)));
        before.slice(after.length).forEach((node) => node.remove());
    }

    async function renewParts() {
        const response = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
        if (!response.ok || response.redirected) throw new Error(`answered ${response.status}`);
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
            const fresh = page.getElementById(part.id);
            // What the page no longer has, a group whose last letter is resolved, say, goes.
            if (fresh) renew(part, fresh); else part.remove();
        }
        document.dispatchEvent(new Event("renewed"));
    }

    const every = () => Math.min(...[...document.querySelectorAll("[data-live]")].map((part) => Number(part.dataset.live) || Infinity));
    async function keepRenewing() {
        if (!document.hidden) {
            try {
                await renewParts();
                document.documentElement.dataset.renewed = Date.now();
            } catch (error) {
                document.dispatchEvent(new CustomEvent("unrenewed", { detail: error.message }));
            }
        }
        schedule();
    }
    const schedule = () => { if (Number.isFinite(every())) setTimeout(keepRenewing, every() * 1000); };
    schedule();
}
