add x0, sp, #768
lsl x21, x15, #4
add x22, x0, x15, LSL 4
ldr x23, [x0, x21]
ldr x24, [x22, #8]
add x15, x15, #1
ldr x21, [x23]
load_ext_name_near x0, User(userextname1)+0
movz x22, #288
madd x0, x8, x22, x0
add x22, x0, x24
ldr x24, [x0, x24]
and x0, x21, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x20, x20, x0
ldr x23, [x23, #8]
and x0, x23, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x19, x19, x0
ldr x24, [x22, #8]
and x0, x21, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x14, x14, x0
and x0, x23, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x13, x13, x0
ldr x24, [x22, #16]
and x0, x21, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x12, x12, x0
and x0, x23, x24
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x11, x11, x0
ldr x22, [x22, #24]
and x0, x21, x22
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x10, x10, x0
and x0, x23, x22
fmov d1, x0
cnt v3.8b, v1.8b
addv b5, v3.8b
umov w0, v5.b[0]
add x9, x9, x0
b label18
