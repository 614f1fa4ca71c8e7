// Brings the page up to date and listens to keys. Everything here can be done without it: by reloading, and by links and forms.
(function () {
  "use strict";
  var live = document.querySelector("[data-live]"), mark = document.getElementById("live"), keys = document.getElementById("keys"), busy = false, again = false;
  if (keys && matchMedia("(pointer: fine)").matches) keys.hidden = false;
  function renew() {
    if (busy) { again = true; return; }
    busy = true;
    fetch(location.href, { credentials: "same-origin", headers: { accept: "text/html" } }).then(function (answer) {
      if (!answer.ok || answer.redirected) throw new Error("page");
      return answer.text();
    }).then(function (text) {
      var fresh = new DOMParser().parseFromString(text, "text/html");
      document.querySelectorAll("[data-live]").forEach(function (part) {
        var other = fresh.getElementById(part.id);
        if (other && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(other));
      });
      if (mark) mark.classList.add("ok");
    }).catch(function () { if (mark) mark.classList.remove("ok"); }).then(function () {
      setTimeout(function () { busy = false; if (again) { again = false; renew(); } }, 3000);
    });
  }
  if (live && window.EventSource) {
    var source = new EventSource("/api/v1/live?seconds=3600");
    source.addEventListener("figures", renew);
    source.addEventListener("order.step", renew);
    source.onopen = function () { if (mark) mark.classList.add("ok"); };
    source.onerror = function () { if (mark) mark.classList.remove("ok"); if (source.readyState === 2) setInterval(renew, 30000); };
  }
  var first = "", rows = function () { return Array.prototype.slice.call(document.querySelectorAll("main tbody tr")); };
  function step(by) {
    var all = rows(), at = all.findIndex(function (row) { return row.classList.contains("on"); });
    if (!all.length) return;
    if (at >= 0) all[at].classList.remove("on");
    var next = all[Math.max(0, Math.min(all.length - 1, at + by))];
    next.classList.add("on");
    next.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    var typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.key === "Escape" && typing) { event.target.blur(); return; }
    if (typing) return;
    var on = document.querySelector("tr.on"), link;
    if (first === "g") {
      first = "";
      link = document.querySelector('nav a[data-key="' + event.key + '"]');
      if (link) { event.preventDefault(); link.click(); }
      return;
    }
    if (event.key === "g") { first = "g"; return; }
    if (event.key === "/") { link = document.querySelector("main input[type=search]"); if (link) { event.preventDefault(); link.focus(); } }
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
    if (event.key === "Enter" && on && event.target === document.body) { link = on.querySelector("a"); if (link) link.click(); }
    if (event.key === "x" && on) { link = on.querySelector("input[type=checkbox]"); if (link) link.checked = !link.checked; }
    if (event.key === "n") { link = document.querySelector("a[rel=next]"); if (link) link.click(); }
  });
})();
