"use strict";
// Shows the buttons that ask for a passkey, where this browser and this address can have one, and says what went wrong.
const can = Boolean(window.PublicKeyCredential) && !/^[0-9.]+$|:/.test(location.hostname);
for (const part of document.querySelectorAll("[data-passkey]")) part.hidden = !can;
for (const part of document.querySelectorAll("[data-no-passkey]")) part.hidden = can;

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  for (const said of document.querySelectorAll("[data-passkey-failed]")) said.hidden = false;
});
for (const one of document.querySelectorAll("script[data-passkey-form]")) {
  window.allauth.webauthn.forms[one.dataset.passkeyForm](JSON.parse(one.textContent));
}
