// Where pictures come from: chosen, pasted, dropped, or from the camera.

import { at, element } from "./words.js";

/** Hand files to `add`, and say with `notice` why there are none; the camera shows what `add` is told of each. */
export function takePictures(add, notice) {
  fromDisk(add);
  fromClipboard(add, notice);
  fromDrop(add, notice);
  fromCamera(add, notice);
}

function fromDisk(add) {
  at("files").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

function fromClipboard(add, notice) {
  document.addEventListener("paste", (event) => {
    if (event.target.matches?.("input, textarea")) return;
    const files = event.clipboardData?.files ?? [];
    if (files.length) add(files);
    else notice("There is no picture in the clipboard. Copy a picture, or a picture file, and paste again.");
  });
}

function fromDrop(add, notice) {
  let inside = 0; // enter and leave come from every element that the pointer passes
  for (const [kind, change] of [["dragenter", 1], ["dragover", 0], ["dragleave", -1], ["drop", -Infinity]]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      inside = Math.max(0, inside + change);
      document.body.classList.toggle("over", inside > 0);
    });
  }
  document.addEventListener("drop", async (event) => {
    const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? (await Promise.all(entries.map(unfold))).flat() : [...event.dataTransfer.files];
    if (files.length) add(files);
    else notice("That was no picture file. Save the picture first, then drop the file here.");
  });
}

/** The files of a dropped file or folder, the folders in it included. */
async function unfold(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([file]), () => resolve([])));
  const [reader, found] = [entry.createReader(), []];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return (await Promise.all(found.map(unfold))).flat();
    found.push(...some);
  }
}

const NO_CAMERA = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be used: another program may have it.",
};

function fromCamera(add, notice) {
  const dialog = at("shoot");
  const video = dialog.querySelector("video");
  const told = dialog.querySelector("[role=status]");
  let shots = 0;

  at("camera").hidden = !navigator.mediaDevices?.getUserMedia; // a browser gives it to localhost and https only
  at("camera").addEventListener("click", async () => {
    notice("");
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return notice(NO_CAMERA[error.name] ?? `The camera cannot be used (${error.message}).`);
    }
    told.textContent = "";
    dialog.showModal();
    at("take").focus();
    video.play().catch(() => {}); // it was closed before it began
  });

  at("take").addEventListener("click", async () => {
    if (!video.videoWidth) return void (told.textContent = "The camera has not started yet.");
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    const name = `camera ${++shots}.jpg`;
    told.textContent = "Looking…";
    add([new File([blob], name, { type: "image/jpeg" })], (text) => (told.textContent = text));
  });

  at("enough").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
}
