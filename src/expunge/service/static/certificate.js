// Checks a certificate of removal in the browser: DSSE v1 with one Ed25519 signature (RFC 8032), by WebCrypto.
// The same conditions as of `expunge certificate verify`; nothing is sent anywhere.
"use strict";
(() => {
  const PAYLOAD = "application/vnd.in-toto+json";
  const STATEMENT = "https://in-toto.io/Statement/v1";
  const PREDICATE = "urn:expunge:removal:v1";
  const OFFLINE = "Use `expunge certificate verify FILE --key signing.pub` instead.";

  class Refused extends Error {}
  class Unable extends Error {}

  function fields(value, what, ...names) {
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Refused(`${what} is no JSON object`);
    for (const name of names) if (!(name in value)) throw new Refused(`${what} has no ${name}`);
    if (Object.keys(value).length > names.length) throw new Refused(`${what} has fields other than ${names.join(", ")}`);
    return value;
  }

  function json(bytes, what) {
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      return JSON.parse(text);
    } catch {
      throw new Refused(`${what} is not JSON`);
    }
  }

  function decoded(text, what) {
    let raw;
    try {
      raw = typeof text === "string" ? atob(text) : "";
    } catch {
      raw = "";
    }
    if (raw === "" || btoa(raw) !== text) throw new Refused(`${what} is no base64 text`);
    return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
  }

  // What DSSE signs: its pre-authentication encoding.
  function authenticated(kind, payload) {
    const name = new TextEncoder().encode(kind);
    const head = new TextEncoder().encode(`DSSEv1 ${name.length} ${kind} ${payload.length} `);
    const whole = new Uint8Array(head.length + payload.length);
    whole.set(head);
    whole.set(payload, head.length);
    return whole;
  }

  function der(pem) {
    const found = /^\s*-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END PUBLIC KEY-----\s*$/.exec(pem);
    if (!found) throw new Refused("this is no public key in PEM");
    return decoded(found[1].replaceAll(/\s/g, ""), "the key");
  }

  const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  async function verified(envelope, pem) {
    if (!globalThis.crypto?.subtle) {
      throw new Unable("This browser gives the page no cryptography here (that needs HTTPS, or an address of this machine).");
    }
    const outer = fields(json(envelope, "it"), "its envelope", "payloadType", "payload", "signatures");
    if (outer.payloadType !== PAYLOAD) throw new Refused(`its payload type is not ${PAYLOAD}`);
    if (!Array.isArray(outer.signatures) || outer.signatures.length !== 1) throw new Refused("it does not have exactly one signature");
    const signature = fields(outer.signatures[0], "its signature", "keyid", "sig");
    const public_ = der(pem);
    const name = hex(await crypto.subtle.digest("SHA-256", public_));
    if (signature.keyid !== name) throw new Refused(`another key than ${name} signed it`);
    const payload = decoded(outer.payload, "its payload");
    let key;
    try {
      key = await crypto.subtle.importKey("spki", public_, { name: "Ed25519" }, false, ["verify"]);
    } catch (error) {
      if (error.name === "NotSupportedError") throw new Unable("This browser cannot check Ed25519 signatures.");
      throw new Refused("this is no Ed25519 public key");
    }
    const holds = await crypto.subtle.verify(
      { name: "Ed25519" }, key, decoded(signature.sig, "its signature"), authenticated(PAYLOAD, payload),
    );
    if (!holds) throw new Refused(`its signature does not hold for the key ${name}`);
    return { statement: checked(json(payload, "its payload")), key: name };
  }

  function checked(stated) {
    fields(stated, "its statement", "_type", "subject", "predicateType", "predicate");
    if (stated._type !== STATEMENT) throw new Refused(`its statement is not of the type ${STATEMENT}`);
    if (stated.predicateType !== PREDICATE) throw new Refused(`its predicate is not of the type ${PREDICATE}`);
    if (!Array.isArray(stated.subject) || stated.subject.length !== 1) throw new Refused("it does not have exactly one subject");
    const subject = fields(stated.subject[0], "its subject", "name", "digest");
    const digest = fields(subject.digest, "the digest of its subject", "sha256");
    const removal = stated.predicate;
    if (subject.name !== `${removal?.model}@${removal?.version}` || digest.sha256 !== removal?.after) {
      throw new Refused("its subject is another version than its predicate is about");
    }
    return stated;
  }

  function show(place, state, head, facts) {
    place.replaceChildren();
    place.className = state === "holds" ? "done" : state === "unable" ? "warn" : "error";
    place.dataset.state = state;
    const strong = document.createElement("strong");
    strong.textContent = head;
    const first = document.createElement("p");
    first.append(strong);
    place.append(first);
    if (facts.length === 0) return;
    const list = document.createElement("dl");
    list.className = "facts";
    for (const [name, value] of facts) {
      const term = document.createElement("dt");
      const told = document.createElement("dd");
      term.textContent = name;
      told.textContent = value;
      list.append(term, told);
    }
    place.append(list);
  }

  const form = document.getElementById("verify");
  if (!form) return;
  form.hidden = false;
  const place = document.getElementById("verified");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [file] = form.elements.certificate.files;
    try {
      let bytes;
      if (file) {
        bytes = await file.arrayBuffer();
      } else {
        const answer = await fetch(form.dataset.certificate, { credentials: "same-origin", cache: "no-store" });
        if (!answer.ok) throw new Unable(`The certificate could not be loaded (${answer.status}).`);
        bytes = await answer.arrayBuffer();
      }
      const { statement, key } = await verified(bytes, form.elements.key.value);
      const removal = statement.predicate;
      show(place, "holds", "The signature holds, and everything in it is as it was signed.", [
        ["about", statement.subject[0].name],
        ["weights", statement.subject[0].digest.sha256],
        ["deletion state", removal.deletion_state ?? "–"],
        ["issued", removal.issued_at],
        ["signed with the key", key],
      ]);
    } catch (error) {
      if (error instanceof Refused) {
        show(place, "refused", `The certificate does not hold: ${error.message}.`, []);
      } else if (error instanceof Unable) {
        show(place, "unable", `${error.message} ${OFFLINE}`, []);
      } else {
        show(place, "unable", `It could not be checked here (${error.message}). ${OFFLINE}`, []);
      }
    }
  });
})();
