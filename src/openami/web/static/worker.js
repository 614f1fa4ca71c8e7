// Keeps the last state of each page of the app. Network first; without one, the kept page, marked with when it was kept.
// Nothing that changes anything passes through here, and signing out empties it (Clear-Site-Data).
const PAGES = "pages-1", FILES = "files-1", PATIENCE_MS = 10000;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", e => e.waitUntil(
  caches.keys().then(all => Promise.all(all.filter(n => n !== PAGES && n !== FILES).map(n => caches.delete(n)))).then(() => self.clients.claim())));

self.addEventListener("fetch", e => {
  const url = new URL(e.request.url);
  if (e.request.method !== "GET" || url.origin !== location.origin) return;
  if (url.pathname.startsWith("/static/")) e.respondWith(file(e.request));
  else if (e.request.mode === "navigate") e.respondWith(page(e));
});

// Only what is of the version in its address: of another release it would stay for ever.
async function file(request) {
  const kept = await caches.match(request);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok && (answer.headers.get("cache-control") || "").includes("immutable")) (await caches.open(FILES)).put(request, answer.clone());
  return answer;
}

async function page(e) {
  const fetched = fetch(e.request).then(answer => {
    if (answer.ok && !answer.redirected && (answer.headers.get("content-type") || "").startsWith("text/html"))
      e.waitUntil(keep(e.request.url, answer.clone()));
    return answer;
  });
  const kept = await caches.match(e.request.url, { cacheName: PAGES });
  if (!kept) return fetched.catch(() => anything());
  const late = new Promise(done => setTimeout(() => done(null), PATIENCE_MS));
  const answer = await Promise.race([fetched, late]).catch(() => null);
  return answer && answer.status < 500 ? answer : marked(kept);
}

async function keep(url, answer) {
  const headers = { "content-type": "text/html; charset=utf-8", "x-kept": String(Date.now()) };
  for (const name of ["content-security-policy", "x-content-type-options", "referrer-policy"])
    if (answer.headers.get(name)) headers[name] = answer.headers.get(name);
  await (await caches.open(PAGES)).put(url, new Response(await answer.text(), { headers }));
}

async function marked(kept) {
  const text = await kept.text();
  return new Response(text.replace("<html ", `<html data-kept="${kept.headers.get("x-kept")}" `), { headers: kept.headers });
}

// A page that was never opened with a network: the app's first page instead, which says that it is old.
async function anything() {
  const pages = await caches.open(PAGES), known = await pages.keys();
  const home = known.find(r => /\/my(\/[^/]*)?$/.test(new URL(r.url).pathname)) || known[0];
  return home ? marked(await pages.match(home)) : Response.error();
}
