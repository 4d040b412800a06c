/** Who the visitor is: a name from the address, or a token for a name. */

const KEY = "guide:identity"
const query = new URLSearchParams(location.search)
const SUGGESTIONS = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi", "Ivan", "Judy", "Mallory", "Niaj", "Olivia", "Peggy", "Rupert", "Sybil", "Trent", "Victor", "Wendy"]

/** The name in the address, if any. */
export const nameInAddress = (query.get("name") ?? "").trim()

/** `longpoll` to leave WebSocket aside. */
export const transportInAddress = query.get("transport")

/** A name that nobody in the list has. */
export function freshName(taken) {
  for (let round = 1; ; round++) {
    const found = SUGGESTIONS.map(name => (round === 1 ? name : `${name} ${round}`)).find(name => !taken.includes(name))
    if (found) return found
  }
}

/** The address of this page for a name; a transport that was chosen stays chosen. */
export function addressFor(name) {
  const address = new URLSearchParams({ name })
  if (transportInAddress) address.set("transport", transportInAddress)
  return `${location.pathname}?${address}`
}

/** The settings that the server gives the page. */
export async function loadConfig() {
  try {
    const response = await fetch("/guide/config.json")
    if (response.ok) return await response.json()
  } catch {}
  return { auth: false, longpoll_fallback_ms: null }
}

/**
 * The token to try: the address's own, else this tab's, else the browser's latest, unless the
 * address asks for somebody else.
 *
 * @returns {{ token: string, name?: string } | null}
 */
export function storedIdentity() {
  if (query.has("token")) return { token: query.get("token") }
  const tab = read(sessionStorage)
  if (tab) return tab
  const browser = read(localStorage)
  return browser && (nameInAddress === "" || nameInAddress === browser.name) ? browser : null
}

/** Gets a token for a name. */
export async function signIn(name) {
  const response = await fetch("/sign-in", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  })
  const answer = await response.json().catch(() => ({}))
  if (!response.ok || !answer.token) throw new Error(answer.reason ?? `the server answered ${response.status}`)
  const identity = { token: answer.token, name }
  sessionStorage.setItem(KEY, JSON.stringify(identity))
  localStorage.setItem(KEY, JSON.stringify(identity))
  return identity
}

/** Forgets a token, in this tab and in this browser. */
export function forget(token) {
  for (const storage of [sessionStorage, localStorage]) {
    if (read(storage)?.token === token) storage.removeItem(KEY)
  }
}

/**
 * Asks the server what it thinks of a token, since a refused WebSocket does not say.
 *
 * @returns {Promise<{ ok: true, name: string } | { ok: false, reason: string } | null>} null if it is not there
 */
export async function checkToken(token) {
  try {
    const response = await fetch("/guide/check-token", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token }),
    })
    return await response.json()
  } catch {
    return null
  }
}

function read(storage) {
  try {
    const identity = JSON.parse(storage.getItem(KEY))
    return typeof identity?.token === "string" ? identity : null
  } catch {
    return null
  }
}
