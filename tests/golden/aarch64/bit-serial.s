add x0, sp, #768
lsl x1, x2, #4
add x3, x0, x2, LSL 4
ldr x4, [x0, x1]
ldr x3, [x3, #8]
add x2, x2, #1
ldr x0, [x4]
load_ext_name_near x1, User(userextname1)+0
movz x5, #288
madd x5, x6, x5, x1
add x1, x5, x3
ldr x3, [x5, x3]
and x5, x0, x3
fmov d0, x5
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w5, v0.b[0]
add x7, x7, x5
ldr x4, [x4, #8]
and x3, x4, x3
fmov d0, x3
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w3, v0.b[0]
add x8, x8, x3
ldr x3, [x1, #8]
and x5, x0, x3
fmov d0, x5
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w5, v0.b[0]
add x9, x9, x5
and x3, x4, x3
fmov d0, x3
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w3, v0.b[0]
add x10, x10, x3
ldr x3, [x1, #16]
and x5, x0, x3
fmov d0, x5
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w5, v0.b[0]
add x11, x11, x5
and x3, x4, x3
fmov d0, x3
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w3, v0.b[0]
add x12, x12, x3
ldr x1, [x1, #24]
and x0, x0, x1
fmov d0, x0
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w0, v0.b[0]
add x13, x13, x0
and x0, x4, x1
fmov d0, x0
cnt v0.8b, v0.8b
addv b0, v0.8b
umov w0, v0.b[0]
add x14, x14, x0
b label17
