/**
 * A client for channels and presence, with phoenix.js's names and behaviour.
 *
 * @module
 */

export { Socket } from "./socket.js"
export { Channel } from "./channel.js"
export { Push } from "./push.js"
export { Presence } from "./presence.js"
export { LongPoll } from "./longpoll.js"
export { Serializer } from "./serializer.js"
export { Backoff, RECONNECT_DELAYS, REJOIN_DELAYS, stepped } from "./backoff.js"
