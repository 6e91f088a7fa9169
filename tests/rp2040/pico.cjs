// A Raspberry Pi Pico in its boot loader, made of the emulator rp2040js and what the boot ROM does (RP2040 datasheet,
// 2.8): its drive is a folder that takes a UF2 file; then it starts the second stage from RAM if its checksum is right.
// Its UART0 is a TCP port, which is printed. Usage: node pico.cjs FOLDER_OF_RP2040JS DRIVE
'use strict';
const fs = require('fs');
const net = require('net');
const path = require('path');
const { RP2040, ConsoleLogger, LogLevel } = require(process.argv[2]);

const drive = process.argv[3];
const BOOT2_IN_RAM = 0x20041f00;
const STEPS = 20000; // between two looks at the socket
const chip = new RP2040();
chip.logger = new ConsoleLogger(LogLevel.Error, false);
const waiting = []; // bytes on their way to the UART
let socket = null;

// The files' format is in https://github.com/microsoft/uf2. Returns false while blocks are missing.
function load(file) {
  const missing = new Set();
  for (let at = 0; at + 512 <= file.length; at += 512) {
    const word = (index) => file.readUInt32LE(at + 4 * index);
    const sound = word(0) === 0x0a324655 && word(1) === 0x9e5d5157 && word(127) === 0x0ab16f30;
    if (!sound || word(2) !== 0x2000 || word(7) !== 0xe48bff56 || word(4) !== 256) return false;
    if (at === 0) for (let i = 0; i < word(6); i++) missing.add(i);
    chip.flash.set(file.subarray(at + 32, at + 32 + 256), word(3) - 0x10000000);
    missing.delete(word(5));
  }
  return file.length > 0 && missing.size === 0;
}

function checksum(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}

function start() {
  const stored = new DataView(chip.flash.buffer).getUint32(252, true);
  if (checksum(chip.flash.subarray(0, 252)) !== stored) throw new Error('the second stage has a wrong checksum');
  chip.sram.fill(0xaa);
  chip.sram.set(chip.flash.subarray(0, 256), BOOT2_IN_RAM - 0x20000000);
  chip.core.reset();
  chip.core.VTOR = 0;
  chip.core.LR = 0;
  chip.core.PC = BOOT2_IN_RAM;
  chip.uart[0].rxFIFO.reset();
}

function run() {
  const fifo = chip.uart[0].rxFIFO;
  for (let i = 0; i < STEPS; i++) {
    if (waiting.length && !fifo.full) chip.uart[0].feedByte(waiting.shift());
    chip.clock.tick((chip.core.executeInstruction() * 1e9) / chip.clkSys);
  }
  if (sent.length && socket) socket.write(Buffer.from(sent.splice(0)));
  setImmediate(run);
}

const sent = [];
chip.uart[0].onByte = (byte) => sent.push(byte);
chip.peripherals[0x40058].onWatchdogTrigger = start;

fs.writeFileSync(path.join(drive, 'INFO_UF2.TXT'), 'UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n');
const server = net.createServer((client) => {
  if (socket) socket.destroy();
  socket = client;
  client.setNoDelay(true);
  client.on('data', (data) => waiting.push(...data));
  client.on('error', () => {});
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

const boot = setInterval(() => {
  const file = fs.readdirSync(drive).find((name) => name.toLowerCase().endsWith('.uf2'));
  if (!file || !load(fs.readFileSync(path.join(drive, file)))) return;
  clearInterval(boot);
  fs.rmSync(path.join(drive, 'INFO_UF2.TXT'));
  start();
  run();
}, 20);
