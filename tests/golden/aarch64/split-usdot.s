ldr w25, [x15]
ldur w24, [x15, #3]
ldur w23, [x15, #6]
ldur w22, [x15, #9]
ldr w21, [x15, #12]
ldur w20, [x15, #15]
sub x14, x14, #1
add x19, x11, #64
add x15, x15, #4
dup v13.4s, w25
ldr q9, [x11]
usdot v8.4s, v8.4s, v13.4s, v9.4s
ldr q10, [x11, #16]
usdot v27.4s, v27.4s, v13.4s, v10.4s
ldr q11, [x11, #32]
usdot v22.4s, v22.4s, v13.4s, v11.4s
ldr q12, [x11, #48]
usdot v17.4s, v17.4s, v13.4s, v12.4s
dup v13.4s, w24
usdot v16.4s, v16.4s, v13.4s, v9.4s
usdot v7.4s, v7.4s, v13.4s, v10.4s
usdot v6.4s, v6.4s, v13.4s, v11.4s
usdot v5.4s, v5.4s, v13.4s, v12.4s
dup v13.4s, w23
usdot v4.4s, v4.4s, v13.4s, v9.4s
usdot v3.4s, v3.4s, v13.4s, v10.4s
usdot v2.4s, v2.4s, v13.4s, v11.4s
usdot v1.4s, v1.4s, v13.4s, v12.4s
dup v13.4s, w22
usdot v31.4s, v31.4s, v13.4s, v9.4s
usdot v30.4s, v30.4s, v13.4s, v10.4s
usdot v29.4s, v29.4s, v13.4s, v11.4s
usdot v28.4s, v28.4s, v13.4s, v12.4s
dup v13.4s, w21
usdot v26.4s, v26.4s, v13.4s, v9.4s
usdot v25.4s, v25.4s, v13.4s, v10.4s
usdot v24.4s, v24.4s, v13.4s, v11.4s
usdot v23.4s, v23.4s, v13.4s, v12.4s
dup v13.4s, w20
usdot v21.4s, v21.4s, v13.4s, v9.4s
usdot v20.4s, v20.4s, v13.4s, v10.4s
usdot v19.4s, v19.4s, v13.4s, v11.4s
usdot v18.4s, v18.4s, v13.4s, v12.4s
cbnz x14, label30 ; b label31
